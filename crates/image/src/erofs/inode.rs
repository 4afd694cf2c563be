//! Inodes: encoded and decoded, no I/O.
//!
//! Format: `fs/erofs/erofs_fs.h`, little endian.
//!
//! Compact (32 bytes): 0 format (u16: bit 0 extended, bits 1-3 layout), 2
//! attribute words (u16), 4 mode (u16), 6 links (u16), 8 size (u32), 16 union
//! (u32), 20 number (u32), 24 uid (u16), 26 gid (u16). Extended (64 bytes): 8
//! size (u64), 16 union, 24 uid (u32), 28 gid (u32), 32 mtime (u64),
//! 40 nanoseconds (u32), 44 links (u32). The union is the first block, the
//! number of compressed blocks, a device number, or the format of chunks.

use anyhow::{Context, Result, ensure};

use super::layout::{at, put, u16_at, u32_at, u64_at};

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
