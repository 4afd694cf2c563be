//! EROFS, the kernel's compressed read-only file system: written and read.
//!
//! Format: kernel doc filesystems/erofs.rst; its structures are in `layout` and `inode`.
//! What is written mounts on Linux 5.4 and newer; on 5.13 and newer where
//! clusters have several blocks, on 5.15 and newer where a file is sparse.
//!
//! An image has the superblock, then the inodes of all directories, then their
//! names; then the contents of all other files, in the order of their names, and
//! now and then a stretch with their inodes. So everything is written once, while
//! it is read, and only names wait for the end, when all inodes have a place.
//! Its bytes follow from tree and options alone.

mod cluster_map;
mod directories;
mod dirents;
mod extents;
mod files;
mod inode;
mod layout;
mod lz4;
mod matches;
mod out;
mod place;
mod read;
mod segment;
mod sparse;
#[cfg(test)]
mod tests;
mod unlz4;
mod unpack;
mod write;
mod xattrs;

pub use layout::seal;
pub use read::read;
pub use write::write;

/// How an image is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of contents of files.
    pub compression: Compression,
    /// Bytes of the largest cluster that is compressed on its own: a multiple of
    /// 4096, up to 1 MiB. Larger ones are smaller in sum, but slower at random.
    pub cluster_size: u32,
    /// UUID of the file system; without it the UUID follows from what is written.
    pub uuid: Option<[u8; 16]>,
    /// At most 15 bytes.
    pub label: String,
    /// Seconds since 1970; an inode with just this time takes less space.
    pub time: i64,
    /// Threads that compress; more than 8 are not used.
    pub threads: usize,
}

/// What is done to contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing: quickest to read.
    None,
    /// Where it saves a block.
    #[default]
    Lz4,
    /// The same for who reads it, but smaller and slower to make, with a level from
    /// 1 to 12.
    Lz4hc(u32),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compression: Compression::Lz4,
            cluster_size: 4096,
            uuid: None,
            label: String::new(),
            time: 0,
            threads: 1,
        }
    }
}
