//! squashfs 4.0, the kernel's older compressed read-only file system: written and
//! read.
//!
//! Format: kernel doc filesystems/squashfs.rst; its structures are in `layout`,
//! `inode`, `dirents` and `xattrs`. What is written mounts on every Linux that has
//! the compressor.
//!
//! An image has the superblock, then the contents of all files: blocks compressed
//! on their own, and fragments, which are blocks of what does not fill one. Inodes
//! and names follow, in blocks of 8 KiB; they are kept compressed until all
//! contents are written. Bytes follow from tree and options alone.

mod compressor;
mod dirents;
mod files;
mod image;
mod inode;
mod layout;
mod metadata;
mod out;
mod plan;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod unpack;
mod write;
mod xattrs;

pub use compressor::Compressor;
pub use read::read;
pub use write::write;

/// How an image is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of contents and of metadata.
    pub compressor: Compressor,
    /// Of the compressor; its usual one without.
    pub level: Option<i32>,
    /// Bytes that are compressed on their own: a power of two from 4096 to 1 MiB.
    /// Larger ones are smaller in sum, but slower at random.
    pub block_size: u32,
    /// Threads that compress; more than 32 are not used.
    pub threads: usize,
    /// The time of the image, in seconds since 1970.
    pub time: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compressor: Compressor::Gzip,
            level: None,
            block_size: 128 << 10,
            threads: 1,
            time: 0,
        }
    }
}
