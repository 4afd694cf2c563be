//! squashfs on disk: every structure of `fs/squashfs/squashfs_fs.h` that we write or read.
//!
//! Nothing in this room does I/O. All numbers are little endian. Addresses count bytes from
//! the start of the image, unless another start is named.
//!
//! Metadata are streams of bytes, cut into blocks of 8 KiB that are compressed one by one.
//! A metadata block is its stored length (u16) and that many bytes. A structure in a stream
//! may cross the end of a block.

pub(in crate::squashfs) mod dirents;
pub(in crate::squashfs) mod fields;
pub(in crate::squashfs) mod inode;
pub(in crate::squashfs) mod position;
pub(in crate::squashfs) mod superblock;
pub(in crate::squashfs) mod units;
pub(in crate::squashfs) mod xattrs;
