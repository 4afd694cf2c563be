//! Contents of files in a squashfs image, read block by block.
//!
//! Format: see `layout::inode` and `layout::units`. The blocks of a file are consecutive, and
//! their descriptions (u32 each) follow its inode. The bytes that do not fill a block are
//! a shorter last block or a part of a fragment.

use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::cursor::MetadataCursor;
use super::fragments;
use super::image::SquashfsImage;
use crate::squashfs::layout::fields::Fields;
use crate::squashfs::layout::inode::FragmentPart;
use crate::squashfs::layout::position::Position;
use crate::squashfs::layout::units::{BLOCK_PLAIN, NONE};
use crate::tree::pieces::in_io;
use crate::tree::{Reader, Stored};

/// Contents of an inode.
#[derive(Debug)]
pub(super) struct SquashfsContents {
    /// Image that holds the file.
    pub image: Arc<SquashfsImage>,
    /// Bytes of the file.
    pub size: u64,
    /// Address of the first block.
    pub start: u64,
    /// Position of the block descriptions in the table of inodes.
    pub blocks: Position,
    /// Place of the bytes that do not fill a block.
    pub fragment: FragmentPart,
}

impl Stored for SquashfsContents {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        let blocks =
            MetadataCursor::new(&self.image, self.image.superblock.inode_table, self.blocks)?;
        Ok(Box::new(BlockReader {
            contents: self,
            blocks,
            described: None,
            next: self.start,
            left: self.size,
            hole: 0,
            block: Arc::default(),
            unread: 0..0,
        }))
    }
}

/// Reader of [`SquashfsContents`].
struct BlockReader<'a> {
    contents: &'a SquashfsContents,
    /// Cursor at the description of the next block.
    blocks: MetadataCursor<'a>,
    /// Description of the next block, if it was read already.
    described: Option<u32>,
    /// Address of the next block.
    next: u64,
    /// Bytes of the file after `unread` and `hole`.
    left: u64,
    /// Bytes that are left of the hole at the current position.
    hole: u64,
    /// Current block or fragment, unpacked.
    block: Arc<Vec<u8>>,
    /// Part of `block` that is still to be read.
    unread: std::ops::Range<usize>,
}

impl BlockReader<'_> {
    /// Position for messages.
    fn context(&self) -> String {
        format!("at byte {}", self.contents.size - self.left)
    }

    /// Unpacked size of the next block, or `None` if the rest is in a fragment.
    fn block_length(&self) -> Option<usize> {
        let block_size = self.contents.image.superblock.block_size();
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(block_size);
        let is_block = length == block_size || self.contents.fragment.number == NONE;
        (is_block && length > 0).then_some(length)
    }

    /// If the next blocks are holes, moves to their end.
    fn find_hole(&mut self) -> Result<()> {
        while let Some(length) = self.block_length() {
            let description = match self.described {
                Some(description) => description,
                None => self.blocks.u32().with_context(|| self.context())?,
            };
            if description != 0 {
                self.described = Some(description);
                break;
            }
            self.hole += length as u64;
            self.left -= length as u64;
        }
        Ok(())
    }

    /// Unpacks the next block or the fragment. The caller has checked that no hole is next.
    fn advance(&mut self) -> Result<()> {
        let SquashfsContents { image, fragment, .. } = self.contents;
        let Some(length) = self.block_length() else {
            self.block =
                fragments::unpack(image, fragment.number).with_context(|| self.context())?;
            let start = fragment.offset as usize;
            self.unread = start..start.saturating_add(usize::try_from(self.left)?);
            ensure!(self.unread.end <= self.block.len(), "the fragment is too short");
            self.left = 0;
            return Ok(());
        };
        let description = self.described.take().context("the description of a block is missing")?;
        // Reuse the memory of a block. A fragment is shared and gets no new contents.
        let mut block = Arc::try_unwrap(std::mem::take(&mut self.block)).unwrap_or_default();
        block.resize(length, 0);
        let found =
            image.block(self.next, description, &mut block).with_context(|| self.context())?;
        ensure!(found == length, "a block unpacks to {found} bytes, not to {length}");
        self.next += u64::from(description & !BLOCK_PLAIN);
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
