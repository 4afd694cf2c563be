//! Contents of files in an ext4 image, in blocks or in the inode.
//!
//! Format: kernel doc filesystems/ext4/ifork.rst and inlinedata.rst.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::image::{BlockMap, Ext4Image};
use crate::tree::pieces::{Piece, PieceReader, Pieces};
use crate::tree::{Reader, Stored};

/// Contents of a file that are stored in blocks.
#[derive(Debug)]
pub(super) struct Ext4Contents {
    /// Image that holds the file.
    pub(super) image: Arc<Ext4Image>,
    /// Number of the inode, for messages.
    pub(super) number: u32,
    /// Block map of the file.
    pub(super) map: BlockMap,
    /// Bytes of the file.
    pub(super) size: u64,
}

/// Contents of a file that are stored in its inode (`EXT4_INLINE_DATA_FL`).
#[derive(Debug)]
pub(super) struct InlineContents {
    /// Stored bytes.
    pub(super) bytes: Box<[u8]>,
    /// Bytes of the file. If they are more than the stored ones, the rest is a hole.
    pub(super) size: u64,
}

impl Stored for InlineContents {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        let length = usize::try_from(self.size).unwrap_or(usize::MAX);
        let bytes = &self.bytes[..length.min(self.bytes.len())];
        Ok(Box::new(InlineReader { bytes, zeros: self.size - bytes.len() as u64 }))
    }
}

/// Reader of [`InlineContents`].
struct InlineReader<'a> {
    bytes: &'a [u8],
    zeros: u64,
}

impl Read for InlineReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.bytes.is_empty() {
            return self.bytes.read(buffer);
        }
        let count = usize::try_from(self.zeros).unwrap_or(usize::MAX).min(buffer.len());
        buffer[..count].fill(0);
        self.skip(count as u64);
        Ok(count)
    }
}

impl Reader for InlineReader<'_> {
    fn hole(&mut self) -> io::Result<u64> {
        Ok(if self.bytes.is_empty() { self.zeros } else { 0 })
    }

    fn skip(&mut self, count: u64) {
        self.zeros = self.zeros.saturating_sub(count);
    }
}

impl Stored for Ext4Contents {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(PieceReader::new(self)))
    }
}

impl Pieces for Ext4Contents {
    fn size(&self) -> u64 {
        self.size
    }

    fn file(&self) -> &File {
        self.image.file()
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        let block_size = self.image.block_size() as u64;
        let offset = position % block_size;
        let run = self.image.find(&self.map, u32::try_from(position / block_size)?);
        let (block, blocks) = run.with_context(|| format!("inode {}", self.number))?;
        let at = block.map(|block| block.saturating_mul(block_size).saturating_add(offset));
        Ok(Piece { at, length: u64::from(blocks) * block_size - offset })
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let block_size = self.image.block_size() as u64;
        let read = self.image.read(at / block_size, at % block_size, buffer);
        read.with_context(|| format!("inode {}", self.number))
    }

    fn data_max(&self) -> u64 {
        self.image.data_max()
    }
}
