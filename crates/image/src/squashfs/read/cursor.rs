//! Reader of a metadata stream.
//!
//! Format: see `layout`. Errors come from damaged blocks and from positions beyond a block.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::image::{MetadataBlock, SquashfsImage};
use crate::squashfs::layout::fields::Fields;
use crate::squashfs::layout::position::Position;

/// Position in a metadata stream of an image, from which fields are read.
#[derive(Clone)]
pub(super) struct MetadataCursor<'a> {
    image: &'a SquashfsImage,
    /// Address of the current block.
    at: u64,
    /// Current block.
    block: Arc<MetadataBlock>,
    /// Bytes of the current block that were read.
    used: usize,
}

impl<'a> MetadataCursor<'a> {
    /// Cursor at `position` of the stream that starts at the address `table`.
    ///
    /// # Errors
    /// The block does not unpack, or ends before the position.
    pub(super) fn new(image: &'a SquashfsImage, table: u64, position: Position) -> Result<Self> {
        let at = table.checked_add(position.block.into()).context("an address is too large")?;
        let block = image.metadata(at)?;
        let used = usize::from(position.offset);
        ensure!(used <= block.bytes.len(), "the metadata block at {at} is too short");
        Ok(Self { image, at, block, used })
    }

    /// Position of the next byte in the stream that starts at the address `table`.
    pub(super) fn position(&self, table: u64) -> Result<Position> {
        let block = self.at.checked_sub(table).context("an address is too small")?;
        Ok(Position { block: u32::try_from(block)?, offset: u16::try_from(self.used)? })
    }
}

impl Fields for MetadataCursor<'_> {
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
