//! Start of an inode on disk: the inode itself and its attributes.

use anyhow::Result;

use crate::erofs::layout::inode::{DataLayout, ErofsInode};
use crate::erofs::layout::units::{BLOCK, BLOCK_BYTES};
use crate::erofs::layout::xattrs;
use crate::tree::{Node, mode};

/// Inode with its attributes. Size, layout and union are filled in when the contents are
/// known.
#[derive(Debug)]
pub(super) struct InodeHead {
    /// The inode.
    pub inode: ErofsInode,
    /// Encoded attributes.
    pub xattrs: Vec<u8>,
}

impl InodeHead {
    /// Builds the head from the metadata of `node`.
    ///
    /// # Errors
    /// EROFS cannot hold the attributes.
    pub(super) fn new(node: &Node) -> Result<Self> {
        let xattrs = xattrs::encode(&node.meta.xattrs)?;
        let inode = ErofsInode {
            xattr_words: xattrs::words(&xattrs)?,
            mode: u16::try_from(mode(node))?,
            links: node.names,
            uid: node.meta.uid,
            gid: node.meta.gid,
            mtime: node.meta.mtime,
            nanoseconds: node.meta.nanoseconds,
            ..ErofsInode::default()
        };
        Ok(Self { inode, xattrs })
    }

    /// Number of bytes on disk, in an image whose compact inodes have `time`.
    pub(super) fn len(&self, time: i64) -> usize {
        self.inode.len(time) + self.xattrs.len()
    }

    /// Chooses the layout of contents that are not compressed. Returns it with the number
    /// of bytes at their end that follow the inode.
    pub(super) fn tail(&self, time: i64) -> (DataLayout, usize) {
        let tail = usize::try_from(self.inode.size % BLOCK_BYTES).unwrap_or_default();
        match tail > 0 && self.len(time) + tail <= BLOCK {
            true => (DataLayout::FlatInline, tail),
            false => (DataLayout::FlatPlain, 0),
        }
    }

    /// Encodes inode and attributes, in an image whose compact inodes have `time`.
    pub(super) fn encode(&self, time: i64) -> Vec<u8> {
        let mut bytes = self.inode.encode(time);
        bytes.extend_from_slice(&self.xattrs);
        bytes
    }
}
