//! Writer of a metadata stream, which it cuts into blocks and compresses.
//!
//! Format: see `layout`. The compressed blocks stay in memory.

use anyhow::{Context, Result};

use crate::squashfs::compressor::Packer;
use crate::squashfs::layout::position::Position;
use crate::squashfs::layout::units::{METADATA, METADATA_PLAIN};

/// Metadata stream that is being written.
pub(super) struct MetadataWriter {
    packer: Packer,
    /// Bytes of the current block, which is not full yet.
    pending: Vec<u8>,
    /// Stored blocks.
    packed: Vec<u8>,
    /// Offset of each block in `packed`.
    blocks: Vec<u32>,
}

impl MetadataWriter {
    /// Empty stream.
    pub(super) fn new(packer: Packer) -> Self {
        Self { packer, pending: Vec::new(), packed: Vec::new(), blocks: Vec::new() }
    }

    /// Position of the next byte.
    ///
    /// # Errors
    /// The stream has more than 4 GiB.
    pub(super) fn position(&self) -> Result<Position> {
        Ok(Position {
            block: u32::try_from(self.packed.len()).context("the metadata has more than 4 GiB")?,
            // `write` keeps this below the size of a block.
            offset: u16::try_from(self.pending.len())?,
        })
    }

    /// Appends `bytes`.
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

    /// Compresses the current block.
    fn end_block(&mut self) -> Result<()> {
        self.blocks.push(self.position()?.block);
        let block = self.packer.pack(std::mem::take(&mut self.pending))?;
        let flag = if block.is_packed { 0 } else { METADATA_PLAIN };
        let length = u16::try_from(block.bytes.len())? | flag;
        self.packed.extend(length.to_le_bytes());
        self.packed.extend(block.bytes);
        Ok(())
    }

    /// Completes the stream. Returns the stored blocks and the offset of each.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<u32>)> {
        if !self.pending.is_empty() {
            self.end_block()?;
        }
        Ok((self.packed, self.blocks))
    }
}
