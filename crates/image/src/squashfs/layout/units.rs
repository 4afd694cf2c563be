//! Sizes, and marks in lengths and references (`fs/squashfs/squashfs_fs.h`).
//!
//! A block of contents is described by 32 bits: its stored length, and [`BLOCK_PLAIN`] if it
//! is not compressed. The description 0 is a block of zeros that is not stored. A record of
//! the fragment table, `struct squashfs_fragment_entry`, has 16 bytes: 0 `start_block`
//! (u64), 8 `size` (such a description), 12 unused.

/// Bytes that a metadata block unpacks to (`SQUASHFS_METADATA_SIZE`). Only the last block of
/// a stream has fewer.
pub(in crate::squashfs) const METADATA: usize = 8192;
/// Mark in the length of a metadata block that is not compressed
/// (`SQUASHFS_COMPRESSED_BIT`).
pub(in crate::squashfs) const METADATA_PLAIN: u16 = 1 << 15;
/// Mark in the length of a block of contents that is not compressed
/// (`SQUASHFS_COMPRESSED_BIT_BLOCK`).
pub(in crate::squashfs) const BLOCK_PLAIN: u32 = 1 << 24;
/// Number of a fragment or of a set of attributes that does not exist
/// (`SQUASHFS_INVALID_FRAG`, `SQUASHFS_INVALID_XATTR`).
pub(in crate::squashfs) const NONE: u32 = u32::MAX;
/// Address of a table that does not exist (`SQUASHFS_INVALID_BLK`).
pub(in crate::squashfs) const NO_TABLE: u64 = u64::MAX;
/// Base 2 logarithms of the smallest and the largest block (`SQUASHFS_FILE_MAX_LOG`).
pub(in crate::squashfs) const BLOCK_LOGS: std::ops::RangeInclusive<u16> = 12..=20;
/// Bytes of a record of the fragment table (`struct squashfs_fragment_entry`).
pub(in crate::squashfs) const FRAGMENT: usize = 16;
