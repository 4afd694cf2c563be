//! EROFS on disk: every structure of `fs/erofs/erofs_fs.h` that we write or read.
//!
//! Nothing in this room does I/O. All numbers are little endian. Addresses of data
//! count blocks of 4 KiB. An inode number (nid) counts slots of 32 bytes from the first
//! metadata block.

pub(in crate::erofs) mod dirents;
pub(in crate::erofs) mod fields;
pub(in crate::erofs) mod inode;
pub(in crate::erofs) mod lcluster;
pub(in crate::erofs) mod superblock;
pub(in crate::erofs) mod units;
pub(in crate::erofs) mod xattrs;
