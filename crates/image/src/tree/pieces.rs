//! Contents that are stored in a file in several pieces, with holes between them.
//!
//! Interface: lseek(2) with `SEEK_DATA` and `SEEK_HOLE`. The file that stores the contents
//! may itself have holes; a hole of the file is a hole of the contents, too.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result, ensure};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Bytes of the smallest piece for which it pays to ask the file for holes.
const LOOK_MIN: u64 = 64 << 10;

/// Reader of contents from their start to their end. It can pass over zeros that the
/// source does not store.
pub trait Reader: Read + Send {
    /// Length in bytes of the hole at the position, up to the next data; 0 if the source
    /// stores the next byte, and at the end.
    ///
    /// # Errors
    /// Errors of reading the source.
    fn hole(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    /// Passes over `count` bytes, which must be no more than [`Reader::hole`] returns.
    fn skip(&mut self, _count: u64) {}
}

impl Reader for &[u8] {}

/// A part of some contents that is stored in one place, or a hole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Offset of the first byte in the file; `None` for a hole.
    pub at: Option<u64>,
    /// Number of bytes, at least 1.
    pub length: u64,
}

/// Map from positions in some contents to offsets in a file.
pub(crate) trait Pieces: Send {
    /// Size of the contents in bytes.
    fn size(&self) -> u64;

    /// The file that stores the contents.
    fn file(&self) -> &File;

    /// The rest of the piece that contains byte `position` of the contents, from that byte
    /// on.
    fn piece(&self, position: u64) -> Result<Piece>;

    /// Reads from offset `at` of the file until `buffer` is full.
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()>;

    /// Most bytes of data in all pieces together. A format in which no two pieces may
    /// share bytes returns the size of the image here, so that a hostile image cannot
    /// claim more data than it has.
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

/// Reader that follows the map of [`Pieces`] from the start of the contents.
pub(crate) struct PieceReader<P> {
    pieces: P,
    position: u64,
    /// The rest of the piece at `position`; its length is 0 if it was not looked up yet.
    piece: Piece,
    /// End of the hole at `position`; not after `position` if the source has no hole there,
    /// or if the hole was not looked up yet.
    hole_end: u64,
    /// Position up to which there is known to be no other hole.
    data_end: u64,
    /// Number of bytes of data that may still follow.
    data_left: u64,
}

impl<P: Pieces> PieceReader<P> {
    /// A reader at the first byte of the contents.
    pub(crate) fn new(pieces: P) -> Self {
        let piece = Piece { at: None, length: 0 };
        let data_left = pieces.data_max();
        Self { pieces, position: 0, piece, hole_end: 0, data_end: 0, data_left }
    }

    /// Looks up the piece at `position`, and cuts it at the end of the contents.
    fn look(&self, position: u64) -> Result<Piece> {
        let Piece { at, length } = self.pieces.piece(position)?;
        ensure!(length > 0, "there is nothing at byte {position}");
        Ok(Piece { at, length: length.min(self.pieces.size() - position) })
    }

    /// Looks up the hole at `position`, and its end. Adjacent holes count as one.
    fn find_hole(&mut self) -> Result<()> {
        self.hole_end = self.hole_end.max(self.position);
        while self.hole_end < self.pieces.size() && self.hole_end >= self.data_end {
            let Piece { at, length } = self.look(self.hole_end)?;
            let (hole, data) = match at {
                None => (length, 0),
                Some(at) => hole_and_data(self.pieces.file(), at, length),
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

/// Asks the file system for the hole of `file` at offset `start`. Returns its length, and
/// the length of the data after it; together at least 1 and at most `length`.
fn hole_and_data(file: &File, start: u64, length: u64) -> (u64, u64) {
    if length < LOOK_MIN {
        return (0, length);
    }
    let hole = match seek(file, SeekFrom::Data(start)) {
        Ok(found) => found.saturating_sub(start).min(length),
        // If the file has become shorter, reading it will be an error.
        Err(Errno::NXIO) if is_as_long(file, start.saturating_add(length)) => length,
        // Some file systems do not know their holes, and devices have no holes.
        Err(_) => return (0, length),
    };
    let rest = length - hole;
    let data = match seek(file, SeekFrom::Hole(start + hole)) {
        Ok(found) => found.saturating_sub(start + hole).clamp(1, rest.max(1)).min(rest),
        Err(_) => rest,
    };
    (hole, data)
}

fn is_as_long(file: &File, length: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() >= length)
}

/// Wraps an error, so that it can pass through [`Read`].
pub(crate) fn in_io(error: anyhow::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;
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
        assert_eq!(reader.hole().unwrap(), 0, "the missing end of a file is no hole");
        assert!(reader.read_to_end(&mut rest).is_err());
    }
}
