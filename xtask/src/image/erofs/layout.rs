//! EROFS on disk: superblock, inodes, indexes; encoded and decoded, no I/O.
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
//! Inode, compact (32 bytes): 0 format (u16: bit 0 extended, bits 1-3 layout), 2
//! attribute words (u16), 4 mode (u16), 6 links (u16), 8 size (u32), 16 union
//! (u32), 20 number (u32), 24 uid (u16), 26 gid (u16). Extended (64 bytes): 8
//! size (u64), 16 union, 24 uid (u32), 28 gid (u32), 32 mtime (u64),
//! 40 nanoseconds (u32), 44 links (u32). The union is the first block, the
//! number of compressed blocks, a device number, or the format of chunks.
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
    pub(in super::super) const INTERLACED: u16 = 0x10;

    /// What we read.
    pub(in super::super) const KNOWN: u16 =
        TWO_BYTES | BIG_CLUSTER | BIG_CLUSTER_2 | TAIL | INTERLACED;
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

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(at(bytes, offset))
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
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
        let checksum = crc32c(out);
        put(out, 4, checksum.to_le_bytes());
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

/// CRC-32C (RFC 3720, appendix B.4), not inverted at the end, as the kernel has
/// it.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL * (crc & 1)))
    })
}

/// Where the contents of an inode are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// In consecutive blocks.
    #[default]
    Plain,
    /// Compressed, with entries of 8 bytes.
    Full,
    /// In consecutive blocks, but the last part behind the inode.
    Inline,
    /// Compressed, with entries of 4 or 2 bytes.
    Compact,
    /// In chunks, some of them holes.
    Chunks,
}

/// In the order of their numbers.
const LAYOUTS: [Layout; 5] =
    [Layout::Plain, Layout::Full, Layout::Inline, Layout::Compact, Layout::Chunks];

/// An inode without its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inode {
    pub layout: Layout,
    /// As the format counts them: 0, or one more than 4-byte words after the header.
    pub xattr_words: u16,
    pub mode: u16,
    pub links: u32,
    pub size: u64,
    /// First block, compressed blocks, device or format of chunks.
    pub union: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
}

impl Inode {
    /// Longest form, in bytes.
    pub(super) const SIZE_MAX: usize = 64;
    const COMPACT: usize = 32;

    /// Bytes on disk, in an image whose compact inodes have `time`.
    pub(super) fn len(&self, time: i64) -> usize {
        let small = |id: u32| u16::try_from(id).is_ok();
        let is_compact = self.mtime == time
            && [self.links, self.uid, self.gid].into_iter().all(small)
            && u32::try_from(self.size).is_ok();
        if is_compact { Self::COMPACT } else { Self::SIZE_MAX }
    }

    /// As it is on disk, in an image whose compact inodes have `time`.
    pub(super) fn encode(&self, time: i64) -> Vec<u8> {
        let mut out = vec![0; self.len(time)];
        let is_extended = out.len() == Self::SIZE_MAX;
        let layout = LAYOUTS.iter().position(|&layout| layout == self.layout).unwrap_or(0);
        let [layout, ..] = layout.to_le_bytes();
        out[0] = layout << 1 | u8::from(is_extended);
        put(&mut out, 2, self.xattr_words.to_le_bytes());
        put(&mut out, 4, self.mode.to_le_bytes());
        put(&mut out, 16, self.union.to_le_bytes());
        if is_extended {
            put(&mut out, 8, self.size.to_le_bytes());
            put(&mut out, 24, self.uid.to_le_bytes());
            put(&mut out, 28, self.gid.to_le_bytes());
            put(&mut out, 32, self.mtime.to_le_bytes());
            put(&mut out, 44, self.links.to_le_bytes());
        } else {
            // Their upper halves are 0: see `len`.
            put(&mut out, 6, at::<2>(&self.links.to_le_bytes(), 0));
            put(&mut out, 8, at::<4>(&self.size.to_le_bytes(), 0));
            put(&mut out, 24, at::<2>(&self.uid.to_le_bytes(), 0));
            put(&mut out, 26, at::<2>(&self.gid.to_le_bytes(), 0));
        }
        out
    }

    /// The inode that `bytes`, [`Inode::SIZE_MAX`] of them or less at the end of
    /// the image, start with.
    pub(super) fn decode(bytes: &[u8], time: i64) -> Result<Self> {
        let format = u16_at(bytes, 0);
        ensure!(bytes.len() >= Self::encoded_len(bytes), "the inode is cut off");
        let layout = LAYOUTS.get(usize::from(format >> 1));
        let layout = *layout.with_context(|| format!("not supported: format {format:#x}"))?;
        let common = Self {
            layout,
            xattr_words: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            union: u32_at(bytes, 16),
            ..Self::default()
        };
        Ok(match format & 1 != 0 {
            true => Self {
                size: u64_at(bytes, 8),
                uid: u32_at(bytes, 24),
                gid: u32_at(bytes, 28),
                mtime: i64::from_le_bytes(at(bytes, 32)),
                links: u32_at(bytes, 44),
                ..common
            },
            false => Self {
                links: u16_at(bytes, 6).into(),
                size: u32_at(bytes, 8).into(),
                uid: u16_at(bytes, 24).into(),
                gid: u16_at(bytes, 26).into(),
                mtime: time,
                ..common
            },
        })
    }

    /// Bytes of the inode that `bytes` start with.
    pub(super) fn encoded_len(bytes: &[u8]) -> usize {
        if u16_at(bytes, 0) & 1 == 0 { Self::COMPACT } else { Self::SIZE_MAX }
    }
}

/// A device number as Linux keeps it in 32 bits: 12 bits of major, 20 of minor
/// (`new_encode_dev`, `include/linux/kdev_t.h`).
pub(super) fn encode_device(major: u32, minor: u32) -> Result<u32> {
    ensure!(
        major < 1 << 12 && minor < 1 << 20,
        "device {major}:{minor}: EROFS has 12 bits for the first number, 20 for the second"
    );
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Undoes [`encode_device`].
pub(super) fn decode_device(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00)
}
