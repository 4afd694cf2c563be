//! Contents that lie in a file in pieces, with holes between them.
//!
//! Interface: lseek(2) with `SEEK_DATA` and `SEEK_HOLE`: the file itself may have
//! holes, too, and what is a hole there is one in the contents.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Bytes of the smallest piece in which the file is asked for holes.
const LOOK_MIN: u64 = 64 << 10;

/// Reads contents from their start to their end; zeros that the source does not
/// store can be passed over.
pub trait Reader: Read + Send {
    /// Bytes of the hole at the position: all of it, whatever it is made of. 0 where
    /// the source stores bytes, and at the end.
    ///
    /// # Errors
    /// Those of reading.
    fn hole(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    /// Passes over `count` bytes, which are no more than [`Reader::hole`] tells.
    fn skip(&mut self, _count: u64) {}
}

impl Reader for &[u8] {}

/// A part of some contents in one piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Where its first byte is in the file; `None` for a hole.
    pub at: Option<u64>,
    /// Bytes, at least 1.
    pub length: u64,
}

/// Where contents are in a file.
pub(super) trait Pieces: Send {
    /// Bytes of the contents.
    fn size(&self) -> u64;

    /// The file.
    fn file(&self) -> &File;

    /// The piece with the byte `position` of the contents, from that byte on.
    fn piece(&self, position: u64) -> Result<Piece>;

    /// Fills `buffer` with what is at byte `at` of the file.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()>;

    /// Bytes that all pieces together have at most, where no two of them share any.
    fn data_max(&self) -> u64 {
        u64::MAX
    }
}

impl<P: Pieces + Sync> Pieces for &P {
    fn size(&self) -> u64 {
        (*self).size()
    }

    fn file(&self) -> &File {
        (*self).file()
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        (*self).piece(position)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        (*self).read(at, buffer)
    }

    fn data_max(&self) -> u64 {
        (*self).data_max()
    }
}

/// Reads contents from their start, piece by piece.
pub(super) struct PieceReader<P> {
    pieces: P,
    position: u64,
    /// The rest of the piece at `position`; of length 0 where it is not known.
    piece: Piece,
    /// End of the hole at `position`, where one is known.
    hole_end: u64,
    /// There is no hole between `position` and this.
    data_end: u64,
    /// Bytes of data that may still follow.
    data_left: u64,
}

impl<P: Pieces> PieceReader<P> {
    /// A reader at the first byte of `pieces`.
    pub(super) fn new(pieces: P) -> Self {
        let piece = Piece { at: None, length: 0 };
        let data_left = pieces.data_max();
        Self { pieces, position: 0, piece, hole_end: 0, data_end: 0, data_left }
    }

    /// The piece with the byte `position`, cut at the end of the contents.
    fn look(&self, position: u64) -> Result<Piece> {
        let Piece { at, length } = self.pieces.piece(position)?;
        ensure!(length > 0, "there is nothing at byte {position}");
        Ok(Piece { at, length: length.min(self.pieces.size() - position) })
    }

    /// Finds the end of the hole at `position`.
    fn find_hole(&mut self) -> Result<()> {
        self.hole_end = self.hole_end.max(self.position);
        while self.hole_end < self.pieces.size() && self.hole_end >= self.data_end {
            let Piece { at, length } = self.look(self.hole_end)?;
            let (hole, data) = match at {
                None => (length, 0),
                Some(at) => stretch(self.pieces.file(), at, length),
            };
            self.hole_end += hole;
            self.data_end = self.hole_end + data;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
        if let Some(hole @ 1..) = self.hole_end.checked_sub(self.position) {
            let count = room(hole);
            buffer[..count].fill(0);
            self.skip(count as u64);
            return Ok(count);
        }
        if self.piece.length == 0 {
            self.piece = self.look(self.position)?;
        }
        let count = room(self.piece.length);
        match self.piece.at {
            Some(at) => {
                let left = self.data_left.checked_sub(count as u64);
                self.data_left = left.context("it has more data than the image")?;
                self.pieces.read(at, &mut buffer[..count])?;
            }
            None => buffer[..count].fill(0),
        }
        self.position += count as u64;
        let at = self.piece.at.map(|at| at + count as u64);
        self.piece = Piece { at, length: self.piece.length - count as u64 };
        Ok(count)
    }
}

impl<P: Pieces> Read for PieceReader<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.position < self.pieces.size() && !buffer.is_empty() {
            true => self.fill(buffer).map_err(in_io),
            false => Ok(0),
        }
    }
}

impl<P: Pieces> Reader for PieceReader<P> {
    fn hole(&mut self) -> io::Result<u64> {
        if self.position >= self.hole_end && self.position >= self.data_end {
            self.find_hole().map_err(in_io)?;
        }
        Ok(self.hole_end.saturating_sub(self.position))
    }

    fn skip(&mut self, count: u64) {
        self.position += count;
        self.piece.length = 0;
    }
}

/// Bytes of the hole of `file` at `start`, and of the data behind it; together at
/// most `length`, and at least 1.
fn stretch(file: &File, start: u64, length: u64) -> (u64, u64) {
    let seek = |at: u64, whence| {
        let at = i64::try_from(at).map_err(|_| Errno::EINVAL)?;
        lseek(file, at, whence).map(|found| u64::try_from(found).unwrap_or_default())
    };
    if length < LOOK_MIN {
        return (0, length);
    }
    let hole = match seek(start, Whence::SeekData) {
        Ok(found) => found.saturating_sub(start).min(length),
        // If the file has become shorter, reading it will be an error.
        Err(Errno::ENXIO) if is_as_long(file, start.saturating_add(length)) => length,
        // Not every file system can tell, and no device.
        Err(_) => return (0, length),
    };
    let rest = length - hole;
    let data = match seek(start + hole, Whence::SeekHole) {
        Ok(found) => found.saturating_sub(start + hole).clamp(1, rest.max(1)).min(rest),
        Err(_) => rest,
    };
    (hole, data)
}

fn is_as_long(file: &File, length: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() >= length)
}

/// An error on its way through a reader.
pub(super) fn in_io(error: anyhow::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    #[test]
    fn holes_of_the_file_are_holes_of_the_contents() {
        const BLOCK: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(5 * BLOCK).unwrap();
        file.write_all_at(&[7], BLOCK + 5).unwrap();
        let archive = Arc::new(file);
        let content = Content::Part { archive: Arc::clone(&archive), offset: 5, size: 4 * BLOCK };
        let mut reader = content.open().unwrap();
        let hole = reader.hole().unwrap();
        assert!((BLOCK - (64 << 10)..=BLOCK).contains(&hole), "{hole}");
        reader.skip(hole - 1);
        assert_eq!(reader.hole().unwrap(), 1);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        let expected = usize::try_from(4 * BLOCK - hole + 1).unwrap();
        let seven = usize::try_from(BLOCK - hole + 1).unwrap();
        assert_eq!((rest.len(), rest.get(seven)), (expected, Some(&7)));
        assert_eq!(rest.iter().filter(|&&byte| byte != 0).count(), 1);
        assert_eq!(reader.hole().unwrap(), 0);
        archive.set_len(BLOCK).unwrap();
        let mut reader = content.open().unwrap();
        assert_eq!(reader.hole().unwrap(), 0, "what has become shorter is no hole");
        assert!(reader.read_to_end(&mut rest).is_err());
    }
}
