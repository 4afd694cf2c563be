//! Superblock of EROFS.
//!
//! Format: `struct erofs_super_block` in `fs/erofs/erofs_fs.h`, little endian, 128 bytes
//! at byte 1024 of the image:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | `magic` |
//! | 4 | 4 | `checksum`: CRC-32C of the rest of the block |
//! | 8 | 4 | `feature_compat` |
//! | 12 | 1 | `blkszbits`: base 2 logarithm of a block |
//! | 13 | 1 | `sb_extslots` |
//! | 14 | 2 | `root_nid` |
//! | 16 | 8 | `inos`: number of inodes |
//! | 24 | 8 | `epoch`: time of all compact inodes |
//! | 32 | 4 | `fixed_nsec` |
//! | 36 | 4 | `blocks` |
//! | 40 | 4 | `meta_blkaddr`: block from which nids count |
//! | 44 | 4 | `xattr_blkaddr`: block of shared attributes |
//! | 48 | 16 | `uuid` |
//! | 64 | 16 | `volume_name` |
//! | 80 | 4 | `feature_incompat` |
//! | 84 | 2 | `available_compr_algs`, or `lz4_max_distance` |
//! | 86 | 2 | `extra_devices` |
//! | 88 | 2 | `devt_slotoff` |
//! | 90 | 1 | `dirblkbits` |
//!
//! If `feature_incompat` has `EROFS_FEATURE_INCOMPAT_COMPR_CFGS`, a record for each
//! compressor follows: its length (u16) and `struct z_erofs_lz4_cfgs`, which is
//! `max_distance` (u16), `max_pclusterblks` (u16) and 10 reserved bytes.

use anyhow::{Context, Result, ensure};

use super::fields::{bytes_at, put, u16_at, u32_at, u64_at};
use super::units::{BLOCK, BLOCK_BITS};
use crate::disk_parts::crc32c::crc32c;

/// Magic number (`EROFS_SUPER_MAGIC_V1`).
const MAGIC: u32 = 0xE0F5_E1E2;
/// Byte of the image where the superblock starts (`EROFS_SUPER_OFFSET`).
const SUPER_AT: usize = 1024;
/// Bytes of the superblock (`struct erofs_super_block`).
const SUPER_SIZE: usize = 128;
/// Bytes of the lz4 record (`struct z_erofs_lz4_cfgs`).
const LZ4_CONFIG: u16 = 14;
/// Longest distance back to an lz4 match, in bytes (`max_distance`).
const LZ4_DISTANCE: u16 = u16::MAX;

/// Bits of `feature_compat`.
pub(in crate::erofs) mod compatible {
    /// The superblock has a checksum (`EROFS_FEATURE_COMPAT_SB_CHKSUM`).
    pub(in crate::erofs) const SB_CHKSUM: u32 = 1;
    /// Times of inodes are modification times (`EROFS_FEATURE_COMPAT_MTIME`).
    pub(in crate::erofs) const MTIME: u32 = 2;
}

/// Bits of `feature_incompat`.
pub(in crate::erofs) mod incompatible {
    /// Compressed data is at the end of its cluster, behind zeros
    /// (`EROFS_FEATURE_INCOMPAT_ZERO_PADDING`).
    pub(in crate::erofs) const ZERO_PADDING: u32 = 1;
    /// Clusters may have several blocks, and compressors have records
    /// (`EROFS_FEATURE_INCOMPAT_BIG_PCLUSTER`, `EROFS_FEATURE_INCOMPAT_COMPR_CFGS`).
    pub(in crate::erofs) const BIG_PCLUSTER: u32 = 2;
    /// Files may consist of chunks (`EROFS_FEATURE_INCOMPAT_CHUNKED_FILE`).
    pub(in crate::erofs) const CHUNKED_FILE: u32 = 4;
    /// A file may use two compressors, or the image more devices
    /// (`EROFS_FEATURE_INCOMPAT_COMPR_HEAD2`, `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`).
    pub(in crate::erofs) const COMPR_HEAD2: u32 = 8;
    /// The last extent of a file may follow its map
    /// (`EROFS_FEATURE_INCOMPAT_ZTAILPACKING`).
    pub(in crate::erofs) const ZTAILPACKING: u32 = 0x10;

    /// All bits that the reader understands.
    pub(in crate::erofs) const READABLE: u32 =
        ZERO_PADDING | BIG_PCLUSTER | CHUNKED_FILE | COMPR_HEAD2 | ZTAILPACKING;
    /// Bits that the reader refuses by name: `EROFS_FEATURE_INCOMPAT_FRAGMENTS` (the
    /// same bit as `…_DEDUPE`), `…_XATTR_PREFIXES`, `…_48BIT`, `…_METABOX`.
    pub(in crate::erofs) const REFUSED: &[(u32, &str)] = &[
        (0x20, "fragments or deduplication"),
        (0x40, "long prefixes of attribute names"),
        (0x80, "48-bit block addresses or encoded extents"),
        (0x100, "a metadata compartment"),
    ];
}

/// Superblock, reduced to the fields that we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::erofs) struct ErofsSuperblock {
    /// Bits of [`incompatible`] (`feature_incompat`).
    pub features: u32,
    /// Inode number of the root directory (`root_nid`).
    pub root: u16,
    /// Number of inodes (`inos`).
    pub inodes: u64,
    /// Time of all compact inodes, in seconds since 1970 (`epoch`).
    pub time: i64,
    /// Number of blocks (`blocks`).
    pub blocks: u32,
    /// Block from which inode numbers count (`meta_blkaddr`).
    pub meta_block: u32,
    /// Block from which shared attributes count (`xattr_blkaddr`).
    pub xattr_block: u32,
    /// UUID of the file system (`uuid`).
    pub uuid: [u8; 16],
    /// Label, filled up with NUL (`volume_name`).
    pub label: [u8; 16],
    /// Blocks of the largest cluster (`max_pclusterblks`).
    pub cluster_blocks: u16,
}

impl ErofsSuperblock {
    /// Encodes the first block of an image, which the superblock is a part of.
    pub(in crate::erofs) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let out = &mut block[SUPER_AT..];
        put(out, 0, MAGIC.to_le_bytes());
        put(out, 8, (compatible::SB_CHKSUM | compatible::MTIME).to_le_bytes());
        out[12] = BLOCK_BITS;
        put(out, 14, self.root.to_le_bytes());
        put(out, 16, self.inodes.to_le_bytes());
        put(out, 24, self.time.to_le_bytes());
        put(out, 36, self.blocks.to_le_bytes());
        put(out, 40, self.meta_block.to_le_bytes());
        put(out, 44, self.xattr_block.to_le_bytes());
        put(out, 48, self.uuid);
        put(out, 64, self.label);
        put(out, 80, self.features.to_le_bytes());
        if self.features & incompatible::BIG_PCLUSTER != 0 {
            // Bit 0 of `available_compr_algs` stands for lz4 (`Z_EROFS_COMPRESSION_LZ4`).
            put(out, 84, 1_u16.to_le_bytes());
            put(out, SUPER_SIZE, LZ4_CONFIG.to_le_bytes());
            put(out, SUPER_SIZE + 2, LZ4_DISTANCE.to_le_bytes());
            put(out, SUPER_SIZE + 4, self.cluster_blocks.to_le_bytes());
        }
        seal(&mut block);
        block
    }

    /// Decodes the first block of an image.
    ///
    /// # Errors
    /// The magic number or the checksum is wrong; the image has a feature that we do
    /// not read.
    pub(in crate::erofs) fn decode(block: &[u8]) -> Result<Self> {
        let bytes = block.get(SUPER_AT..BLOCK).context("the image is shorter than a block")?;
        ensure!(u32_at(bytes, 0) == MAGIC, "this is no EROFS image: the magic number is wrong");
        let features = u32_at(bytes, 80);
        for (bit, name) in incompatible::REFUSED {
            ensure!(features & bit == 0, "not supported: EROFS with {name}");
        }
        let unknown = features & !incompatible::READABLE;
        ensure!(unknown == 0, "not supported: EROFS with the unknown features {unknown:#x}");
        ensure!(
            bytes[12] == BLOCK_BITS,
            "not supported: EROFS with blocks of another size than 4 KiB"
        );
        ensure!(bytes[90] == 0, "not supported: EROFS with larger directory blocks");
        ensure!(u16_at(bytes, 86) == 0, "not supported: EROFS on several devices");
        if u32_at(bytes, 8) & compatible::SB_CHKSUM != 0 {
            let mut copy = bytes.to_vec();
            put(&mut copy, 4, [0; 4]);
            ensure!(
                crc32c(u32::MAX, &copy) == u32_at(bytes, 4),
                "the superblock's checksum is wrong"
            );
        }
        Ok(Self {
            features,
            root: u16_at(bytes, 14),
            inodes: u64_at(bytes, 16),
            time: i64::from_le_bytes(bytes_at(bytes, 24)),
            blocks: u32_at(bytes, 36),
            meta_block: u32_at(bytes, 40),
            xattr_block: u32_at(bytes, 44),
            uuid: bytes_at(bytes, 48),
            label: bytes_at(bytes, 64),
            cluster_blocks: match features & incompatible::BIG_PCLUSTER {
                0 => 1,
                _ => u16_at(bytes, SUPER_SIZE + 4),
            },
        })
    }
}

/// Replaces the checksum of the superblock in `image`.
///
/// Tests and fuzzers use this to repair an image that they have changed. `image` may hold
/// any bytes; a slice shorter than a block stays as it is.
pub fn seal(image: &mut [u8]) {
    let Some(bytes) = image.get_mut(SUPER_AT..BLOCK) else { return };
    put(bytes, 4, [0; 4]);
    let checksum = crc32c(u32::MAX, bytes);
    put(bytes, 4, checksum.to_le_bytes());
}
