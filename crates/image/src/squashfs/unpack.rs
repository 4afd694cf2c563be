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
use crate::tree::pieces::in_io;
use crate::tree::{Reader, Stored};

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

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        let blocks = Cursor::new(&self.image, self.image.superblock.inode_table, self.blocks)?;
        Ok(Box::new(BlockReader {
            contents: self,
            blocks,
            told: None,
            next: self.start,
            left: self.size,
            hole: 0,
            block: Arc::default(),
            unread: 0..0,
        }))
    }
}

struct BlockReader<'a> {
    contents: &'a Contents,
    /// At the length of the next block.
    blocks: Cursor<'a>,
    /// That length, where it was read already.
    told: Option<u32>,
    /// Where the next block is.
    next: u64,
    /// Bytes of the file behind `unread` and `hole`.
    left: u64,
    /// Bytes of the hole at the position.
    hole: u64,
    /// A block or a fragment.
    block: Arc<Vec<u8>>,
    /// What is to be read of it.
    unread: std::ops::Range<usize>,
}

impl BlockReader<'_> {
    fn context(&self) -> String {
        format!("at byte {}", self.contents.size - self.left)
    }

    /// Bytes of the next block; `None` where the rest is in a fragment.
    fn block_length(&self) -> Option<usize> {
        let block_size = self.contents.image.superblock.block_size();
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(block_size);
        let is_block = length == block_size || self.contents.fragment.number == NONE;
        (is_block && length > 0).then_some(length)
    }

    /// Goes to the end of the hole, if the next block is one.
    fn find_hole(&mut self) -> Result<()> {
        while let Some(length) = self.block_length() {
            let told = match self.told {
                Some(told) => told,
                None => self.blocks.u32().with_context(|| self.context())?,
            };
            if told != 0 {
                self.told = Some(told);
                break;
            }
            self.hole += length as u64;
            self.left -= length as u64;
        }
        Ok(())
    }

    /// Unpacks what is next; it is no hole.
    fn advance(&mut self) -> Result<()> {
        let Contents { image, fragment, .. } = self.contents;
        let Some(length) = self.block_length() else {
            self.block = image.fragment(fragment.number).with_context(|| self.context())?;
            let start = fragment.offset as usize;
            self.unread = start..start.saturating_add(usize::try_from(self.left)?);
            ensure!(self.unread.end <= self.block.len(), "the fragment is too short");
            self.left = 0;
            return Ok(());
        };
        let told = self.told.take().context("the length of a block is missing")?;
        // A fragment stays where it is, others read it as well.
        let mut block = Arc::try_unwrap(std::mem::take(&mut self.block)).unwrap_or_default();
        block.resize(length, 0);
        let found = image.block(self.next, told, &mut block).with_context(|| self.context())?;
        ensure!(found == length, "a block of {found} bytes, not of {length}");
        self.next += u64::from(told & !BLOCK_PLAIN);
        (self.block, self.unread) = (Arc::new(block), 0..length);
        self.left -= length as u64;
        Ok(())
    }
}

impl Read for BlockReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let hole = usize::try_from(self.hole()?).unwrap_or(usize::MAX).min(buffer.len());
        if hole > 0 {
            buffer[..hole].fill(0);
            self.skip(hole as u64);
            return Ok(hole);
        }
        if self.unread.is_empty() {
            if self.left == 0 {
                return Ok(0);
            }
            if let Err(error) = self.advance() {
                self.unread = 0..0;
                return Err(in_io(error));
            }
        }
        let length = self.unread.len().min(buffer.len());
        let rest = &self.block[self.unread.start..][..length];
        buffer[..length].copy_from_slice(rest);
        self.unread.start += length;
        Ok(length)
    }
}

impl Reader for BlockReader<'_> {
    fn hole(&mut self) -> io::Result<u64> {
        if self.unread.is_empty() && self.hole == 0 {
            self.find_hole().map_err(in_io)?;
        }
        Ok(if self.unread.is_empty() { self.hole } else { 0 })
    }

    fn skip(&mut self, count: u64) {
        self.hole = self.hole.saturating_sub(count);
    }
}
