//! Units in which EROFS counts: blocks and slots (`fs/erofs/erofs_fs.h`).

/// Bytes of a block (`1 << blkszbits`). Every kernel mounts this size.
pub(in crate::erofs) const BLOCK: usize = 4096;
/// Bytes of a block, as a file size.
pub(in crate::erofs) const BLOCK_BYTES: u64 = 4096;
/// Base 2 logarithm of [`BLOCK`] (`blkszbits`).
pub(in crate::erofs) const BLOCK_BITS: u8 = 12;
/// Bytes of an inode slot, the unit of a nid (`EROFS_SLOTSIZE`).
pub(in crate::erofs) const SLOT: usize = 32;
/// Block address of a chunk that is a hole (`EROFS_NULL_ADDR`).
pub(in crate::erofs) const NULL_ADDRESS: u32 = u32::MAX;
