//! ext4 on disk: every structure that both the writer and the reader need.
//!
//! Nothing in this room does I/O. All numbers are little endian.

pub(in crate::ext4) mod acl;
pub(in crate::ext4) mod bytes;
pub(in crate::ext4) mod dirents;
pub(in crate::ext4) mod extents;
pub(in crate::ext4) mod group;
pub(in crate::ext4) mod inode;
pub(in crate::ext4) mod superblock;
pub(in crate::ext4) mod xattrs;
