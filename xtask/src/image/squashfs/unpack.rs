//! Contents of files in an image, block by block.
//!
//! Format: the blocks of a file follow each other from its start; their lengths
//! (u32 each) follow its inode. What does not fill a block is the last one, or a
//! part of a fragment.

use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::image::Image;
use super::inode::Fragment;
use super::layout::{BLOCK_PLAIN, Fields, NONE};
use super::metadata::{Cursor, Position};
use crate::image::tree::Stored;

/// The contents of an inode.
#[derive(Debug)]
pub(super) struct Contents {
    pub image: Arc<Image>,
    pub size: u64,
    /// Address of the first block.
    pub start: u64,
    /// Where the lengths of the blocks are, in the table of inodes.
    pub blocks: Position,
    pub fragment: Fragment,
}

impl Stored for Contents {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        let blocks = Cursor::new(&self.image, self.image.superblock.inode_table, self.blocks)?;
        Ok(Box::new(Reader {
            contents: self,
            blocks,
            next: self.start,
            left: self.size,
            block: Arc::default(),
            unread: 0..0,
        }))
    }
}

struct Reader<'a> {
    contents: &'a Contents,
    /// At the length of the next block.
    blocks: Cursor<'a>,
    /// Where that is.
    next: u64,
    /// Bytes of the file that are not unpacked yet.
    left: u64,
    /// A block or a fragment.
    block: Arc<Vec<u8>>,
    /// What is to be read of it.
    unread: std::ops::Range<usize>,
}

impl Reader<'_> {
    /// Unpacks what is next.
    fn advance(&mut self) -> Result<()> {
        let Contents { image, size, fragment, .. } = self.contents;
        let block_size = image.superblock.block_size();
        let length = usize::try_from(self.left.min(block_size as u64))?;
        let context = || format!("at byte {}", size - self.left);
        if length < block_size && fragment.number != NONE {
            self.block = image.fragment(fragment.number).with_context(context)?;
            let start = fragment.offset as usize;
            self.unread = start..start.saturating_add(length);
            ensure!(self.unread.end <= self.block.len(), "the fragment is too short");
        } else {
            let told = self.blocks.u32().with_context(context)?;
            // A fragment stays where it is, others read it as well.
            let mut block = Arc::try_unwrap(std::mem::take(&mut self.block)).unwrap_or_default();
            block.resize(length, 0);
            match told {
                0 => block.fill(0),
                _ => {
                    let found = image.block(self.next, told, &mut block).with_context(context)?;
                    ensure!(found == length, "a block of {found} bytes, not of {length}");
                    self.next += u64::from(told & !BLOCK_PLAIN);
                }
            }
            (self.block, self.unread) = (Arc::new(block), 0..length);
        }
        self.left -= length as u64;
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            if self.left == 0 || buffer.is_empty() {
                return Ok(0);
            }
            if let Err(error) = self.advance() {
                self.unread = 0..0;
                return Err(io::Error::other(error));
            }
        }
        let length = self.unread.len().min(buffer.len());
        let rest = &self.block[self.unread.start..][..length];
        buffer[..length].copy_from_slice(rest);
        self.unread.start += length;
        Ok(length)
    }
}
