//! EROFS on disk: constants and the superblock; see also [`super::inode`].
//!
//! Format: kernel doc filesystems/erofs.rst, `fs/erofs/erofs_fs.h`. All numbers
//! are little endian. Addresses of data count blocks of 4 KiB; inode numbers
//! (nid) count slots of 32 bytes from the first metadata block.
//!
//! Superblock, at byte 1024: 0 magic, 4 crc32c of the rest of the block, 8
//! compatible features, 12 block bits (u8), 13 extra slots (u8), 14 root nid
//! (u16), 16 inodes (u64), 24 time (u64), 32 nanoseconds, 36 blocks, 40 metadata
//! block, 44 shared attributes block, 48 uuid, 64 label, 80 incompatible
//! features, 84 compressors (u16), 86 extra devices (u16), 88 their slot, 90
//! directory block bits (u8); 128 bytes. Where the feature says so, a record for
//! each compressor follows: length (u16), then for lz4: longest distance (u16),
//! blocks of the largest cluster (u16), 10 bytes reserved.
//!
//! Cluster map, at the next multiple of 8 after inode and attributes: 0 bytes in
//! the tail (upper u16 of a u32), 4 advice (u16), 6 compressors (two nibbles), 7
//! cluster bits - 12 (u8); the full kind has 8 more bytes before its entries.
//! Entry of 8 bytes: 0 kind (u16, lower two bits), 2 offset of the first byte of
//! a new cluster (u16), 4 its block (u32), or distances back and forth (u16 each).

use anyhow::{Context, Result, ensure};

/// Bytes in a block; the only size that every kernel mounts.
pub(super) const BLOCK: usize = 4096;
/// As [`BLOCK`], among sizes of files.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// Base 2 logarithm of [`BLOCK`].
pub(super) const BLOCK_BITS: u8 = 12;
/// Bytes that a nid counts.
pub(super) const SLOT: usize = 32;
/// Block address of a chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;
/// Bytes of a cluster map before the entries of the full kind.
pub(super) const MAP_HEADER: usize = 16;
/// Bytes of an entry of the full kind.
pub(super) const ENTRY: usize = 8;
/// Set in the first distance back of a cluster that may have several blocks: the
/// rest is their number.
pub(super) const BLOCK_COUNT: u16 = 1 << 11;

const MAGIC: u32 = 0xE0F5_E1E2;
const SUPER_AT: usize = 1024;
const SUPER_SIZE: usize = 128;
const COMPRESSOR_RECORD: u16 = 14;
/// Farthest an lz4 match reaches back, in bytes.
const LZ4_DISTANCE: u16 = u16::MAX;

/// `feature_compat`.
pub(super) mod compatible {
    pub(in super::super) const CHECKSUM: u32 = 1;
    pub(in super::super) const MTIME: u32 = 2;
}

/// `feature_incompat`.
pub(super) mod incompatible {
    /// Compressed data ends with its cluster.
    pub(in super::super) const ZERO_PADDING: u32 = 1;
    /// Clusters of several blocks; records for compressors.
    pub(in super::super) const BIG_CLUSTER: u32 = 2;
    pub(in super::super) const CHUNKS: u32 = 4;
    /// A second compressor, or more devices.
    pub(in super::super) const SECOND_HEAD: u32 = 8;
    pub(in super::super) const TAILS: u32 = 0x10;

    /// What we read.
    pub(in super::super) const KNOWN: u32 =
        ZERO_PADDING | BIG_CLUSTER | CHUNKS | SECOND_HEAD | TAILS;
    /// What we do not, by bit.
    pub(in super::super) const NAMES: &[(u32, &str)] = &[
        (0x20, "fragments or deduplication"),
        (0x40, "long prefixes of attribute names"),
        (0x80, "48-bit block addresses or encoded extents"),
        (0x100, "a metadata compartment"),
    ];
}

/// `h_advise` of a cluster map.
pub(super) mod advice {
    pub(in super::super) const TWO_BYTES: u16 = 1;
    pub(in super::super) const BIG_CLUSTER: u16 = 2;
    pub(in super::super) const BIG_CLUSTER_2: u16 = 4;
    pub(in super::super) const TAIL: u16 = 8;

    /// What we read.
    pub(in super::super) const KNOWN: u16 = TWO_BYTES | BIG_CLUSTER | BIG_CLUSTER_2 | TAIL;
}

/// Types of entries of a cluster map.
pub(super) mod lcluster {
    pub(in super::super) const PLAIN: u16 = 0;
    pub(in super::super) const HEAD: u16 = 1;
    pub(in super::super) const INSIDE: u16 = 2;
    pub(in super::super) const HEAD_2: u16 = 3;
}

/// The `N` bytes at `at`; 0 beyond the end of `bytes`, for what is read there
/// was measured before.
pub(super) fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(at(bytes, offset))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(at(bytes, offset))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(at(bytes, offset))
}

pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// The superblock, as far as we use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Incompatible features.
    pub features: u32,
    pub root: u16,
    pub inodes: u64,
    /// Time of all compact inodes.
    pub time: i64,
    pub blocks: u32,
    /// Block from which nids count.
    pub meta_block: u32,
    /// Block of shared attributes.
    pub xattr_block: u32,
    pub uuid: [u8; 16],
    pub label: [u8; 16],
    /// Of the largest cluster.
    pub cluster_blocks: u16,
}

impl Superblock {
    /// The first block of an image.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let out = &mut block[SUPER_AT..];
        put(out, 0, MAGIC.to_le_bytes());
        put(out, 8, (compatible::CHECKSUM | compatible::MTIME).to_le_bytes());
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
        if self.features & incompatible::BIG_CLUSTER != 0 {
            // The set of compressors: the first is lz4.
            put(out, 84, 1_u16.to_le_bytes());
            put(out, SUPER_SIZE, COMPRESSOR_RECORD.to_le_bytes());
            put(out, SUPER_SIZE + 2, LZ4_DISTANCE.to_le_bytes());
            put(out, SUPER_SIZE + 4, self.cluster_blocks.to_le_bytes());
        }
        seal(&mut block);
        block
    }

    /// # Errors
    /// Another format, a wrong checksum, a feature we do not know.
    pub(super) fn decode(block: &[u8]) -> Result<Self> {
        let bytes = block.get(SUPER_AT..BLOCK).context("the image is shorter than a block")?;
        ensure!(u32_at(bytes, 0) == MAGIC, "no EROFS: the magic number is wrong");
        let features = u32_at(bytes, 80);
        for (bit, name) in incompatible::NAMES {
            ensure!(features & bit == 0, "not supported: EROFS with {name}");
        }
        let unknown = features & !incompatible::KNOWN;
        ensure!(unknown == 0, "not supported: EROFS with the unknown features {unknown:#x}");
        ensure!(bytes[12] == BLOCK_BITS, "not supported: EROFS blocks of other than 4 KiB");
        ensure!(bytes[90] == 0, "not supported: EROFS with larger directory blocks");
        ensure!(u16_at(bytes, 86) == 0, "not supported: EROFS on several devices");
        if u32_at(bytes, 8) & compatible::CHECKSUM != 0 {
            let mut copy = bytes.to_vec();
            put(&mut copy, 4, [0; 4]);
            ensure!(crc32c(&copy) == u32_at(bytes, 4), "the superblock's checksum is wrong");
        }
        Ok(Self {
            features,
            root: u16_at(bytes, 14),
            inodes: u64_at(bytes, 16),
            time: i64::from_le_bytes(at(bytes, 24)),
            blocks: u32_at(bytes, 36),
            meta_block: u32_at(bytes, 40),
            xattr_block: u32_at(bytes, 44),
            uuid: at(bytes, 48),
            label: at(bytes, 64),
            cluster_blocks: match features & incompatible::BIG_CLUSTER {
                0 => 1,
                _ => u16_at(bytes, SUPER_SIZE + 4),
            },
        })
    }
}

/// Writes the check sum of the superblock of `image`, which may be anything.
pub fn seal(image: &mut [u8]) {
    let Some(bytes) = image.get_mut(SUPER_AT..BLOCK) else { return };
    put(bytes, 4, [0; 4]);
    let checksum = crc32c(bytes);
    put(bytes, 4, checksum.to_le_bytes());
}

/// CRC-32C (RFC 3720, appendix B.4), not inverted at the end, as the kernel has
/// it.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL * (crc & 1)))
    })
}
