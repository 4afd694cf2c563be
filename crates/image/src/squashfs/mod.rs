//! squashfs 4.0, the kernel's older compressed read-only file system: a writer and a
//! reader.
//!
//! Format: kernel doc filesystems/squashfs.rst and `fs/squashfs/squashfs_fs.h`; the
//! structures are in `layout`. An image that we write mounts on every kernel that has its
//! compressor.
//!
//! An image starts with the superblock and the contents of all files. Contents are blocks
//! that are compressed one by one, and fragments: blocks that hold the ends of several
//! files. Inodes and names follow in metadata blocks of 8 KiB, which the writer keeps in
//! memory, compressed, until all contents are written. The bytes of an image depend on the
//! tree and the options alone.

mod compressor;
mod layout;
mod options;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use compressor::Compressor;
pub use options::SquashfsOptions;
pub use read::read;
pub use write::write;
