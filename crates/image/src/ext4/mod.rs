//! ext4 images: a writer that mounts nothing, and a reader.
//!
//! Format: kernel doc filesystems/ext4 and `fs/ext4/ext4.h`; the structures are in
//! `layout`. An image that we write has blocks of 4 KiB, inodes of 256 bytes, extents, a
//! journal, indexed directories and checksums of all metadata; a [`scratch()`] disk
//! has no journal. Equal trees and options
//! give equal bytes. The reader takes older file systems as well: ext2, ext3, and
//! everything usual that mke2fs(8) makes.

mod layout;
mod options;
mod read;
mod scratch;
#[cfg(test)]
mod tests;
mod write;

pub use options::{Ext4Journal, Ext4Options, Ext4Size, Ext4Uuid, label};
pub use read::read;
pub use scratch::scratch;
pub use write::write;
