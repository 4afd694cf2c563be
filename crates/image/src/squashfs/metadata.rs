//! Metadata: a stream of bytes, cut into blocks of 8 KiB that are compressed one
//! by one.
//!
//! Format: a block is its packed length (u16; the upper bit is set where it is not
//! compressed) and that many bytes. What is in the stream may cross borders of
//! blocks.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::compressor::Packer;
use super::image::Image;
use super::layout::{Fields, METADATA, METADATA_PLAIN};

/// Where something is in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Address of its block, from the start of the table.
    pub block: u32,
    /// Bytes of the unpacked block that come before it.
    pub offset: u16,
}

impl Position {
    /// As other metadata tells it.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }

    pub(super) fn of_reference(reference: u64) -> Result<Self> {
        let block = u32::try_from(reference >> 16);
        let block = block.ok().with_context(|| format!("the reference {reference:#x} is wrong"))?;
        let [low, high, ..] = reference.to_le_bytes();
        Ok(Self { block, offset: u16::from_le_bytes([low, high]) })
    }
}

/// Packs a stream.
pub(super) struct Writer {
    packer: Packer,
    /// What does not fill a block yet.
    pending: Vec<u8>,
    packed: Vec<u8>,
    /// Addresses of all blocks, in `packed`.
    blocks: Vec<u32>,
}

impl Writer {
    pub(super) fn new(packer: Packer) -> Self {
        Self { packer, pending: Vec::new(), packed: Vec::new(), blocks: Vec::new() }
    }

    /// Of what is written next.
    ///
    /// # Errors
    /// More than 4 GiB.
    pub(super) fn position(&self) -> Result<Position> {
        Ok(Position {
            block: u32::try_from(self.packed.len()).context("more than 4 GiB of metadata")?,
            // Below the size of a block: see `write`.
            offset: u16::try_from(self.pending.len())?,
        })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(METADATA - self.pending.len()));
            self.pending.extend_from_slice(part);
            bytes = rest;
            if self.pending.len() == METADATA {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<()> {
        self.blocks.push(self.position()?.block);
        let block = self.packer.pack(std::mem::take(&mut self.pending))?;
        let flag = if block.is_packed { 0 } else { METADATA_PLAIN };
        let length = u16::try_from(block.bytes.len())? | flag;
        self.packed.extend(length.to_le_bytes());
        self.packed.extend(block.bytes);
        Ok(())
    }

    /// All blocks, and where each of them starts.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<u32>)> {
        if !self.pending.is_empty() {
            self.end_block()?;
        }
        Ok((self.packed, self.blocks))
    }
}

/// A block that was unpacked.
#[derive(Debug)]
pub(super) struct Block {
    pub bytes: Vec<u8>,
    /// Address of what follows it.
    pub next: u64,
}

/// Reads a stream of an image.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    image: &'a Image,
    /// Address of the block.
    at: u64,
    block: Arc<Block>,
    used: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at `position` of the table at `table`.
    ///
    /// # Errors
    /// A block that does not unpack, or ends before that.
    pub(super) fn new(image: &'a Image, table: u64, position: Position) -> Result<Self> {
        let at = table.checked_add(position.block.into()).context("an address is too large")?;
        let block = image.metadata(at)?;
        let used = usize::from(position.offset);
        ensure!(used <= block.bytes.len(), "the metadata block at {at} is too short");
        Ok(Self { image, at, block, used })
    }

    /// Where the next byte is, in the table at `table`.
    pub(super) fn position(&self, table: u64) -> Result<Position> {
        let block = self.at.checked_sub(table).context("an address is too small")?;
        Ok(Position { block: u32::try_from(block)?, offset: u16::try_from(self.used)? })
    }
}

impl Fields for Cursor<'_> {
    fn fill(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if self.used == self.block.bytes.len() {
                self.at = self.block.next;
                self.block = self.image.metadata(self.at)?;
                self.used = 0;
            }
            let rest = &self.block.bytes[self.used..];
            let count = rest.len().min(out.len());
            let (part, left) = out.split_at_mut(count);
            part.copy_from_slice(&rest[..count]);
            self.used += count;
            out = left;
        }
        Ok(())
    }
}
