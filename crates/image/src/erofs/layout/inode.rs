//! Inodes of EROFS.
//!
//! Format: `struct erofs_inode_compact` (32 bytes) and `struct erofs_inode_extended`
//! (64 bytes) in `fs/erofs/erofs_fs.h`, little endian.
//!
//! | Compact | Extended | Field |
//! |---|---|---|
//! | 0, 2 bytes | 0, 2 bytes | `i_format`: bit 0 is set in the extended form, bits 1-3 are the layout |
//! | 2, 2 bytes | 2, 2 bytes | `i_xattr_icount`: size of the attributes |
//! | 4, 2 bytes | 4, 2 bytes | `i_mode` |
//! | 6, 2 bytes | 44, 4 bytes | `i_nlink` |
//! | 8, 4 bytes | 8, 8 bytes | `i_size` |
//! | 16, 4 bytes | 16, 4 bytes | `i_u`: depends on the layout |
//! | 20, 4 bytes | 20, 4 bytes | `i_ino` |
//! | 24, 2 bytes | 24, 4 bytes | `i_uid` |
//! | 26, 2 bytes | 28, 4 bytes | `i_gid` |
//! | | 32, 8 bytes | `i_mtime` |
//! | | 40, 4 bytes | `i_mtime_nsec` |
//!
//! The union `i_u` holds the first block (`startblk_lo`), the number of compressed blocks
//! (`blocks_lo`), a device number (`rdev`), or the format of chunks (`c.format`).

use anyhow::{Context, Result, ensure};

use super::fields::{bytes_at, put, u16_at, u32_at, u64_at};

/// Bits of a chunk format that are the base 2 logarithm of a chunk's blocks
/// (`EROFS_CHUNK_FORMAT_BLKBITS_MASK`).
pub(in crate::erofs) const CHUNK_BITS_MASK: u32 = 0x1f;
/// Bit of a chunk format that says that the chunk table has 8 bytes for a chunk
/// (`EROFS_CHUNK_FORMAT_INDEXES`).
pub(in crate::erofs) const CHUNK_INDEXES: u32 = 0x20;

/// Layout of the contents of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::erofs) enum DataLayout {
    /// Consecutive blocks (`EROFS_INODE_FLAT_PLAIN`).
    #[default]
    FlatPlain,
    /// Compressed; a map entry has 8 bytes (`EROFS_INODE_COMPRESSED_FULL`).
    CompressedFull,
    /// Consecutive blocks; the bytes that do not fill a block follow the inode
    /// (`EROFS_INODE_FLAT_INLINE`).
    FlatInline,
    /// Compressed; a map entry has 4 or 2 bytes (`EROFS_INODE_COMPRESSED_COMPACT`).
    CompressedCompact,
    /// Chunks of equal size, some of them holes (`EROFS_INODE_CHUNK_BASED`).
    ChunkBased,
}

/// All layouts, indexed by their number in `i_format`.
const DATA_LAYOUTS: [DataLayout; 5] = [
    DataLayout::FlatPlain,
    DataLayout::CompressedFull,
    DataLayout::FlatInline,
    DataLayout::CompressedCompact,
    DataLayout::ChunkBased,
];

/// Inode without its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::erofs) struct ErofsInode {
    /// Layout of the contents (bits 1-3 of `i_format`).
    pub layout: DataLayout,
    /// Size of the attributes (`i_xattr_icount`): 0 if there are none, otherwise 1 plus
    /// the number of 4-byte words after their header.
    pub xattr_words: u16,
    /// Type and permissions (`i_mode`).
    pub mode: u16,
    /// Number of hard links (`i_nlink`).
    pub links: u32,
    /// Bytes of the contents (`i_size`).
    pub size: u64,
    /// First block, number of compressed blocks, device or chunk format (`i_u`).
    pub union: u32,
    /// User that owns the file (`i_uid`).
    pub uid: u32,
    /// Group that owns the file (`i_gid`).
    pub gid: u32,
    /// Modification time in seconds since 1970 (`i_mtime`).
    pub mtime: i64,
    /// Nanoseconds of the modification time (`i_mtime_nsec`).
    pub nanoseconds: u32,
}

impl ErofsInode {
    /// Bytes of the extended form (`struct erofs_inode_extended`), which is the longer one.
    pub(in crate::erofs) const SIZE_MAX: usize = 64;
    /// Bytes of the compact form (`struct erofs_inode_compact`).
    const COMPACT: usize = 32;

    /// Number of bytes that the inode takes in an image whose compact inodes have `time`.
    pub(in crate::erofs) fn len(&self, time: i64) -> usize {
        let small = |id: u32| u16::try_from(id).is_ok();
        let is_compact = (self.mtime, self.nanoseconds) == (time, 0)
            && [self.links, self.uid, self.gid].into_iter().all(small)
            && u32::try_from(self.size).is_ok();
        if is_compact { Self::COMPACT } else { Self::SIZE_MAX }
    }

    /// Encodes the inode for an image whose compact inodes have `time`.
    pub(in crate::erofs) fn encode(&self, time: i64) -> Vec<u8> {
        let mut out = vec![0; self.len(time)];
        let is_extended = out.len() == Self::SIZE_MAX;
        let layout = DATA_LAYOUTS.iter().position(|&layout| layout == self.layout).unwrap_or(0);
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
            put(&mut out, 40, self.nanoseconds.to_le_bytes());
            put(&mut out, 44, self.links.to_le_bytes());
        } else {
            // `len` chose the compact form because the upper halves are 0.
            put(&mut out, 6, bytes_at::<2>(&self.links.to_le_bytes(), 0));
            put(&mut out, 8, bytes_at::<4>(&self.size.to_le_bytes(), 0));
            put(&mut out, 24, bytes_at::<2>(&self.uid.to_le_bytes(), 0));
            put(&mut out, 26, bytes_at::<2>(&self.gid.to_le_bytes(), 0));
        }
        out
    }

    /// Decodes the inode at the start of `bytes`, in an image whose compact inodes have
    /// `time`. `bytes` needs [`Self::SIZE_MAX`] bytes unless the image ends before that.
    ///
    /// # Errors
    /// The inode is cut off, or its layout is unknown.
    pub(in crate::erofs) fn decode(bytes: &[u8], time: i64) -> Result<Self> {
        let format = u16_at(bytes, 0);
        ensure!(bytes.len() >= Self::encoded_len(bytes), "the inode is cut off");
        let layout = DATA_LAYOUTS.get(usize::from(format >> 1));
        let layout =
            *layout.with_context(|| format!("not supported: an inode of format {format:#x}"))?;
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
                mtime: i64::from_le_bytes(bytes_at(bytes, 32)),
                nanoseconds: u32_at(bytes, 40),
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

    /// Number of bytes of the inode at the start of `bytes`.
    pub(in crate::erofs) fn encoded_len(bytes: &[u8]) -> usize {
        if u16_at(bytes, 0) & 1 == 0 { Self::COMPACT } else { Self::SIZE_MAX }
    }
}
