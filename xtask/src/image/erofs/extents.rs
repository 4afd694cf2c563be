//! Contents of files in an image that are not compressed, and holes.
//!
//! Format: kernel doc filesystems/erofs.rst, "Inline data", "Chunk-based files".
//! The table of chunks follows the inode: a block address (u32) each, or 8 bytes:
//! 0 advice (u16), 2 device (u16), 4 block address (u32).

use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::inode::{Inode, Layout};
use super::layout::{BLOCK_BYTES, HOLE, u16_at, u32_at};
use super::read::Image;
use super::unpack::Unpacker;
use crate::image::tree::Stored;

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

/// A part of a file in one piece.
struct Piece {
    /// In bytes from the image's start; `None` for a hole.
    at: Option<u64>,
    /// Bytes from the asked one to the piece's end.
    length: u64,
}

impl Contents {
    /// Reads from the start.
    pub(super) fn reader(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(match self.inode.layout {
            Layout::Plain | Layout::Inline | Layout::Chunks => {
                Box::new(Reader { contents: self, position: 0 })
            }
            Layout::Full | Layout::Compact => Box::new(Unpacker::new(self)?),
        })
    }

    /// Where the byte `position` of the file is.
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

    fn chunk(&self, position: u64) -> Result<Piece> {
        let format = self.inode.union & 0xffff;
        let known = format & !(CHUNK_BITS | CHUNK_INDEXES) == 0;
        ensure!(known, "not supported: chunks of format {format:#x}");
        let size = BLOCK_BYTES << (format & CHUNK_BITS);
        let (number, offset) = (position / size, position % size);
        let block = if format & CHUNK_INDEXES == 0 {
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

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        self.reader()
    }
}

struct Reader<'a> {
    contents: &'a Contents,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.contents.inode.size {
            return Ok(0);
        }
        let piece = self.contents.piece(self.position).map_err(in_io)?;
        let length = usize::try_from(piece.length).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..length];
        match piece.at {
            Some(at) => self.contents.image.read(at, buffer).map_err(in_io)?,
            None => buffer.fill(0),
        }
        self.position += length as u64;
        Ok(length)
    }
}

/// An error on its way through a reader.
pub(super) fn in_io(error: anyhow::Error) -> io::Error {
    io::Error::other(error)
}
