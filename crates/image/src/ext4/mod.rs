//! ext4 images: written from a tree without mounting anything, and read as one.
//!
//! Format: kernel doc filesystems/ext4. What is written has blocks of 4 KiB,
//! inodes of 256 bytes, extents, a journal, indexed directories and checksums of
//! all metadata; equal trees and options give equal bytes. What is read may also
//! be older: ext2, ext3, and what mke2fs(8) makes of them.

mod acl;
mod bytes;
mod contents;
mod dirents;
mod disk;
mod extents;
mod geometry;
mod groups;
mod htree;
mod inode;
mod journal;
mod layout;
mod plan;
mod read;
mod volume;
mod write;
mod xattrs;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::progress::Progress;
use super::tree::Tree;

/// Bytes of the longest label.
const LABEL_MAX: usize = 16;

/// What a file system is, apart from what is in it.
#[derive(Clone, Debug)]
pub struct Options {
    /// How large the image is.
    pub size: Size,
    /// Names the file system.
    pub uuid: Uuid,
    /// Names it for people; filled up with NUL ([`label`]).
    pub label: [u8; 16],
    /// When it was made, in seconds since 1970.
    pub time: i64,
}

/// How large an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Exact(u64),
    /// As many as are needed, and free space.
    Slack {
        /// Free space in percent of what is used.
        percent: u32,
        /// Free space in bytes, on top of that.
        bytes: u64,
    },
}

/// UUID of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uuid {
    /// This one; the hashes and checksums of metadata begin with it.
    Given([u8; 16]),
    /// One that follows from what is written.
    OfContents {
        /// Number with which the hashes and checksums of metadata begin instead.
        seed: [u8; 16],
    },
}

impl Options {
    /// Number with which the hashes of directories and the checksums begin.
    fn hash_seed(&self) -> [u8; 16] {
        match self.uuid {
            Uuid::Given(uuid) => uuid,
            Uuid::OfContents { seed } => seed,
        }
    }

    fn given_uuid(&self) -> Option<[u8; 16]> {
        match self.uuid {
            Uuid::Given(uuid) => Some(uuid),
            Uuid::OfContents { .. } => None,
        }
    }
}

/// A text as a label.
///
/// # Errors
/// One of more than 16 bytes.
pub fn label(text: &str) -> Result<[u8; LABEL_MAX]> {
    ensure!(text.len() <= LABEL_MAX, "label \"{text}\": ext4 has {LABEL_MAX} bytes for it");
    let mut label = [0; LABEL_MAX];
    label[..text.len()].copy_from_slice(text.as_bytes());
    Ok(label)
}

/// Writes the file system of `tree` into the regular file `out`, whose contents
/// are lost. Holes of files stay holes, and the image is one where nothing is.
///
/// # Errors
/// What ext4 cannot hold, and a tree too large for the size, before anything is
/// written; contents that cannot be read.
pub fn write(tree: &Tree, options: &Options, out: &File, progress: &Progress) -> Result<()> {
    write::write(tree, options, out, progress)
}

/// Reads the file system in `image`; contents stay there. An empty `lost+found` is
/// left out: every ext4 has one.
///
/// # Errors
/// What is no ext2, ext3 or ext4, is damaged, or has a feature or a journal that
/// has to be dealt with first.
pub fn read(image: Arc<File>) -> Result<Tree> {
    read::read(image)
}
