//! Contents of a file in an EROFS image: consecutive blocks, chunks, and holes.
//!
//! Format: kernel doc filesystems/erofs.rst, "Inline data" and "Chunk-based files". The
//! table of chunks follows the inode. It has a block address (u32) for each chunk, or
//! `struct erofs_inode_chunk_index` of 8 bytes: 0 `advise` (u16), 2 `device_id` (u16), 4
//! `blkaddr` (u32). Compressed contents are read by [`ExtentReader`].

use std::fs::File;

use anyhow::{Result, ensure};

use super::image::StoredInode;
use super::unpacker::ExtentReader;
use crate::erofs::layout::fields::{u16_at, u32_at};
use crate::erofs::layout::inode::{CHUNK_BITS_MASK, CHUNK_INDEXES, DataLayout};
use crate::erofs::layout::units::{BLOCK_BYTES, NULL_ADDRESS};
use crate::tree::pieces::{Piece, PieceReader, Pieces};
use crate::tree::{Reader, Stored};

/// Contents of an inode.
#[derive(Clone, Debug)]
pub(super) struct ErofsContents {
    /// The inode whose contents these are.
    pub stored: StoredInode,
}

impl ErofsContents {
    /// Opens a reader at the first byte.
    pub(super) fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(match self.stored.inode.layout {
            DataLayout::FlatPlain | DataLayout::FlatInline | DataLayout::ChunkBased => {
                Box::new(PieceReader::new(self))
            }
            DataLayout::CompressedFull | DataLayout::CompressedCompact => {
                Box::new(ExtentReader::new(&self.stored)?)
            }
        })
    }

    /// Checks that the image has room for contents of the size in the inode.
    ///
    /// # Errors
    /// No file can have this size, or the image is too small for it.
    pub(super) fn check_size(&self) -> Result<()> {
        let size = self.stored.inode.size;
        ensure!(i64::try_from(size).is_ok(), "a file of {size} bytes: no file has more than 2^63");
        let left = self.stored.image.size.saturating_sub(self.stored.end);
        let blocks = size.div_ceil(BLOCK_BYTES);
        let fits = match self.stored.inode.layout {
            // The map has at least two bytes for each block.
            DataLayout::CompressedFull | DataLayout::CompressedCompact => blocks / 2 <= left,
            DataLayout::ChunkBased => size.div_ceil(self.chunk_size()?) * 4 <= left,
            DataLayout::FlatPlain | DataLayout::FlatInline => size <= self.stored.image.size,
        };
        ensure!(fits, "a file of {size} bytes, for which the image is too small");
        Ok(())
    }

    /// Bytes of each chunk but the last.
    fn chunk_size(&self) -> Result<u64> {
        let format = self.stored.inode.union & 0xffff;
        let known = format & !(CHUNK_BITS_MASK | CHUNK_INDEXES) == 0;
        ensure!(known, "not supported: chunks of format {format:#x}");
        Ok(BLOCK_BYTES << (format & CHUNK_BITS_MASK))
    }

    /// The piece from `position` to the end of its chunk.
    fn chunk(&self, position: u64) -> Result<Piece> {
        let size = self.chunk_size()?;
        let (number, offset) = (position / size, position % size);
        let block = if self.stored.inode.union & CHUNK_INDEXES == 0 {
            let mut entry = [0; 4];
            self.stored.image.read(self.stored.end.next_multiple_of(4) + number * 4, &mut entry)?;
            u32_at(&entry, 0)
        } else {
            let mut entry = [0; 8];
            self.stored.image.read(self.stored.end.next_multiple_of(8) + number * 8, &mut entry)?;
            ensure!(u16_at(&entry, 2) == 0, "not supported: chunks on other devices");
            u32_at(&entry, 4)
        };
        let at = (block != NULL_ADDRESS).then(|| u64::from(block) * BLOCK_BYTES + offset);
        Ok(Piece { at, length: (size - offset).min(self.stored.inode.size - position) })
    }
}

impl Stored for ErofsContents {
    fn size(&self) -> u64 {
        self.stored.inode.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        self.reader()
    }
}

impl Pieces for ErofsContents {
    fn size(&self) -> u64 {
        self.stored.inode.size
    }

    fn file(&self) -> &File {
        self.stored.image.file()
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        let left = self.stored.inode.size - position;
        let start = u64::from(self.stored.inode.union) * BLOCK_BYTES;
        match self.stored.inode.layout {
            DataLayout::ChunkBased => self.chunk(position),
            DataLayout::FlatInline => {
                let inline = (self.stored.inode.size - 1) / BLOCK_BYTES * BLOCK_BYTES;
                Ok(match position.checked_sub(inline) {
                    Some(offset) => {
                        Piece { at: Some(self.stored.end.saturating_add(offset)), length: left }
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
        self.stored.image.read(at, buffer)
    }
}
