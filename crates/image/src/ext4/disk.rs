//! The image while it is written: blocks in larger writes, inode tables.

use anyhow::{Context, Result};

use super::bytes::{BLOCK, Block, ZEROS, put};
use super::extents::Place;
use super::geometry::Blocks;
use super::inode;
use crate::disk::identity::Image;

/// Blocks on their way to the image: those that follow each other are one write.
#[derive(Debug)]
pub(super) struct Disk<'a> {
    out: &'a Image<'a>,
    /// The block that would be next.
    next: u64,
    buffer: Vec<u8>,
}

impl<'a> Disk<'a> {
    /// Bytes that are held back at most.
    const BUFFER: usize = 256 * BLOCK;

    pub(super) fn new(out: &'a Image<'a>) -> Self {
        Self { out, next: 0, buffer: Vec::with_capacity(Self::BUFFER) }
    }

    pub(super) fn write(&mut self, at: u64, block: &Block) -> Result<()> {
        if at != self.next || self.buffer.len() == Self::BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(block);
        self.next = at + 1;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        let end = self.next * BLOCK as u64;
        let result = self.out.write_at(&self.buffer, end - self.buffer.len() as u64);
        self.buffer.clear();
        result.context("write the image")
    }
}

/// The free part of the image.
#[derive(Debug)]
pub(super) struct Space<'a> {
    pub(super) disk: Disk<'a>,
    pub(super) blocks: Blocks<'a>,
}

impl Place for Space<'_> {
    fn place(&mut self, block: &Block) -> Result<u64> {
        let at = self.blocks.take()?;
        self.disk.write(at, block)?;
        Ok(at)
    }
}

/// The inode tables, one block at a time.
#[derive(Debug)]
pub(super) struct Table<'a> {
    out: &'a Image<'a>,
    block: Block,
    /// The byte of the image where `block` belongs; 0 before the first.
    at: u64,
}

impl<'a> Table<'a> {
    pub(super) fn new(out: &'a Image<'a>) -> Self {
        Self { out, block: ZEROS, at: 0 }
    }

    pub(super) fn put(&mut self, at: u64, bytes: [u8; inode::SIZE]) -> Result<()> {
        let offset = at % BLOCK as u64;
        if at - offset != self.at {
            self.flush()?;
            self.at = at - offset;
        }
        put(&mut self.block, usize::try_from(offset)?, bytes);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if self.at > 0 {
            self.out.write_at(&self.block, self.at).context("write the image")?;
        }
        self.block = ZEROS;
        Ok(())
    }
}
