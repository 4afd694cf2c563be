//! Contents of files in an image that are not compressed, and holes.
//!
//! Format: kernel doc filesystems/erofs.rst, "Inline data", "Chunk-based files".
//! The table of chunks follows the inode: a block address (u32) each, or 8 bytes:
//! 0 advice (u16), 2 device (u16), 4 block address (u32).

use std::fs::File;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::inode::{Inode, Layout};
use super::layout::{BLOCK_BYTES, HOLE, u16_at, u32_at};
use super::read::Image;
use super::unpack::Unpacker;
use crate::pieces::{Piece, PieceReader, Pieces};
use crate::tree::{Reader, Stored};

/// Which of a chunk format's bits are the logarithm of its blocks.
const CHUNK_BITS: u32 = 0x1f;
/// Set where the table has 8 bytes for a chunk.
const CHUNK_INDEXES: u32 = 0x20;

/// The contents of an inode.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub image: Arc<Image>,
    pub inode: Inode,
    /// What follows the inode and its attributes, in bytes from the image's start.
    pub behind: u64,
}

impl Contents {
    /// Reads from the start.
    pub(super) fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(match self.inode.layout {
            Layout::Plain | Layout::Inline | Layout::Chunks => Box::new(PieceReader::new(self)),
            Layout::Full | Layout::Compact => Box::new(Unpacker::new(self)?),
        })
    }

    /// Whether the image has room for what the inode says of its contents.
    ///
    /// # Errors
    /// A size that no file has, or for which the image is too small.
    pub(super) fn check_size(&self) -> Result<()> {
        let size = self.inode.size;
        ensure!(i64::try_from(size).is_ok(), "a file of {size} bytes: no file has more than 2^63");
        let left = self.image.size.saturating_sub(self.behind);
        let blocks = size.div_ceil(BLOCK_BYTES);
        let fits = match self.inode.layout {
            // Two bytes for a block at least, and a tail behind them.
            Layout::Full | Layout::Compact => blocks / 2 <= left,
            Layout::Chunks => size.div_ceil(self.chunk_size()?) * 4 <= left,
            Layout::Plain | Layout::Inline => size <= self.image.size,
        };
        ensure!(fits, "a file of {size} bytes, for which the image is too small");
        Ok(())
    }

    fn chunk_size(&self) -> Result<u64> {
        let format = self.inode.union & 0xffff;
        let known = format & !(CHUNK_BITS | CHUNK_INDEXES) == 0;
        ensure!(known, "not supported: chunks of format {format:#x}");
        Ok(BLOCK_BYTES << (format & CHUNK_BITS))
    }

    fn chunk(&self, position: u64) -> Result<Piece> {
        let size = self.chunk_size()?;
        let (number, offset) = (position / size, position % size);
        let block = if self.inode.union & CHUNK_INDEXES == 0 {
            let mut entry = [0; 4];
            self.image.read(self.behind.next_multiple_of(4) + number * 4, &mut entry)?;
            u32_at(&entry, 0)
        } else {
            let mut entry = [0; 8];
            self.image.read(self.behind.next_multiple_of(8) + number * 8, &mut entry)?;
            ensure!(u16_at(&entry, 2) == 0, "not supported: chunks on other devices");
            u32_at(&entry, 4)
        };
        let at = (block != HOLE).then(|| u64::from(block) * BLOCK_BYTES + offset);
        Ok(Piece { at, length: (size - offset).min(self.inode.size - position) })
    }
}

impl Stored for Contents {
    fn size(&self) -> u64 {
        self.inode.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        self.reader()
    }
}

impl Pieces for Contents {
    fn size(&self) -> u64 {
        self.inode.size
    }

    fn file(&self) -> &File {
        self.image.file()
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        let left = self.inode.size - position;
        let start = u64::from(self.inode.union) * BLOCK_BYTES;
        match self.inode.layout {
            Layout::Chunks => self.chunk(position),
            Layout::Inline => {
                let inline = (self.inode.size - 1) / BLOCK_BYTES * BLOCK_BYTES;
                Ok(match position.checked_sub(inline) {
                    Some(offset) => {
                        Piece { at: Some(self.behind.saturating_add(offset)), length: left }
                    }
                    None => Piece {
                        at: Some(start.saturating_add(position)),
                        length: inline - position,
                    },
                })
            }
            _ => Ok(Piece { at: Some(start.saturating_add(position)), length: left }),
        }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.image.read(at, buffer)
    }
}
