//! Output of the writer: it joins blocks into larger writes and fills the inode tables.
//!
//! Interface: pwrite(2). A block that is never written stays a hole of the image file.

use anyhow::{Context, Result};

use super::extent_tree::BlockSink;
use super::geometry::DataBlocks;
use crate::disk_parts::identity::Image;
use crate::ext4::layout::bytes::{BLOCK, Ext4Block, ZEROS, put};
use crate::ext4::layout::inode;

/// Writer of blocks, which joins consecutive blocks into one write.
#[derive(Debug)]
pub(super) struct BlockWriter<'a> {
    out: &'a Image<'a>,
    /// Block after the last one in `buffer`.
    next: u64,
    buffer: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    /// Most bytes in `buffer`.
    const BUFFER: usize = 256 * BLOCK;

    /// Writer to `out`.
    pub(super) fn new(out: &'a Image<'a>) -> Self {
        Self { out, next: 0, buffer: Vec::with_capacity(Self::BUFFER) }
    }

    /// Writes block `at` of the image.
    pub(super) fn write(&mut self, at: u64, block: &Ext4Block) -> Result<()> {
        if at != self.next || self.buffer.len() == Self::BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(block);
        self.next = at + 1;
        Ok(())
    }

    /// Writes the blocks in `buffer`.
    pub(super) fn flush(&mut self) -> Result<()> {
        let end = self.next * BLOCK as u64;
        let result = self.out.write_at(&self.buffer, end - self.buffer.len() as u64);
        self.buffer.clear();
        result.context("write the image")
    }
}

/// Free space of the image.
#[derive(Debug)]
pub(super) struct FreeSpace<'a> {
    /// Writer of the blocks.
    pub(super) disk: BlockWriter<'a>,
    /// Free data blocks.
    pub(super) blocks: DataBlocks<'a>,
}

impl BlockSink for FreeSpace<'_> {
    fn append(&mut self, block: &Ext4Block) -> Result<u64> {
        let at = self.blocks.take()?;
        self.disk.write(at, block)?;
        Ok(at)
    }
}

/// Writer of the inode tables, one block at a time.
#[derive(Debug)]
pub(super) struct InodeTableWriter<'a> {
    out: &'a Image<'a>,
    block: Ext4Block,
    /// Byte of the image where `block` belongs, or 0 if there is no block yet.
    at: u64,
}

impl<'a> InodeTableWriter<'a> {
    /// Writer to `out`.
    pub(super) fn new(out: &'a Image<'a>) -> Self {
        Self { out, block: ZEROS, at: 0 }
    }

    /// Stores an encoded inode at byte `at` of the image.
    pub(super) fn put(&mut self, at: u64, bytes: [u8; inode::SIZE]) -> Result<()> {
        let offset = at % BLOCK as u64;
        if at - offset != self.at {
            self.flush()?;
            self.at = at - offset;
        }
        put(&mut self.block, usize::try_from(offset)?, bytes);
        Ok(())
    }

    /// Writes the current block.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.at > 0 {
            self.out.write_at(&self.block, self.at).context("write the image")?;
        }
        self.block = ZEROS;
        Ok(())
    }
}
