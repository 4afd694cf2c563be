//! EROFS, the kernel's compressed read-only file system: a writer and a reader.
//!
//! Format: kernel doc filesystems/erofs.rst and `fs/erofs/erofs_fs.h`; the structures
//! are in `layout`. An image that we write mounts on Linux 5.4 and newer. An image
//! whose clusters have several blocks needs Linux 5.13; an image with a sparse file needs
//! Linux 5.15.
//!
//! An image starts with the superblock, the inodes of all directories and the names in
//! them. The contents of all other files follow in the order of their names, with
//! stretches of inodes between them. The writer writes each part once, while it reads
//! the source; only the names wait until every inode has its place. The bytes of an
//! image depend on the tree and the options alone.

mod layout;
mod lz4;
mod options;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use layout::superblock::seal;
pub use options::{ErofsCompression, ErofsOptions};
pub use read::read;
pub use write::write;
