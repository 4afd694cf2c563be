//! Files with holes, whose data an archive has without them.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::image::content::At;
use crate::image::tree::Stored;

/// Bytes of the largest file: what ext4 takes with blocks of 4 KiB.
const SIZE_MAX: u64 = 16 << 40;

/// A stretch of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Where it is in the file.
    at: u64,
    /// Where it is in the archive.
    from: u64,
    /// Bytes.
    size: u64,
}

/// A file of which an archive has some pieces, the rest being zeroes.
#[derive(Debug)]
pub(super) struct Sparse {
    archive: Arc<File>,
    pieces: Vec<Piece>,
    size: u64,
}

impl Sparse {
    /// A file of `size` bytes. `map` has the offset and length of each piece; their
    /// data are side by side in the archive from `from` up to `end`.
    ///
    /// # Errors
    /// Pieces that overlap, are out of order, or reach beyond either end.
    pub(super) fn new(
        archive: &Arc<File>,
        size: u64,
        map: &[(u64, u64)],
        mut from: u64,
        end: u64,
    ) -> Result<Self> {
        ensure!(
            size <= SIZE_MAX,
            "a sparse file of {size} bytes: no more than 16 TiB are read here"
        );
        let (mut pieces, mut done) = (Vec::new(), 0_u64);
        for &(at, length) in map {
            ensure!(at >= done, "pieces of a sparse file overlap");
            let beyond = "a piece of a sparse file is beyond its end";
            pieces.push(Piece { at, from, size: length });
            let sum = |at: u64, limit| at.checked_add(length).filter(|&sum| sum <= limit);
            (done, from) = (sum(at, size).context(beyond)?, sum(from, end).context(beyond)?);
        }
        Ok(Self { archive: Arc::clone(archive), pieces, size })
    }
}

impl Stored for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Reader { sparse: self, at: 0, next: 0 }))
    }
}

struct Reader<'a> {
    sparse: &'a Sparse,
    at: u64,
    /// The first piece that does not end before `at`.
    next: usize,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Sparse { archive, pieces, size } = self.sparse;
        while pieces.get(self.next).is_some_and(|piece| piece.at + piece.size <= self.at) {
            self.next += 1;
        }
        let piece = pieces.get(self.next);
        let hole_end = piece.map_or(*size, |piece| piece.at);
        let room = |end: u64| usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let count = match piece {
            Some(piece) if piece.at <= self.at => {
                let count = room(piece.at + piece.size).min(buffer.len());
                let offset = piece.from + (self.at - piece.at);
                let read = At { file: archive, offset }.read(&mut buffer[..count])?;
                if read == 0 && count > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                read
            }
            _ => {
                let count = room(hole_end).min(buffer.len());
                buffer[..count].fill(0);
                count
            }
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn archive() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"..abcdef").unwrap();
        Arc::new(file)
    }

    #[test]
    fn holes_are_zeroes() {
        let map = [(2, 3), (5, 0), (5, 1), (8, 2), (12, 0)];
        let sparse = Sparse::new(&archive(), 12, &map, 2, 8).unwrap();
        let mut bytes = Vec::new();
        sparse.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0abcd\0\0ef\0\0");
    }

    #[test]
    fn senseless_maps_are_refused() {
        for (name, size, map) in [
            ("overlap", 12, &[(2, 3), (4, 1)][..]),
            ("beyond the file", 4, &[(2, 3)]),
            ("beyond the archive", 12, &[(2, 7)]),
            ("overflow", 12, &[(2, u64::MAX)]),
            ("too large", u64::MAX, &[]),
        ] {
            assert!(Sparse::new(&archive(), size, map, 2, 8).is_err(), "{name}");
        }
    }
}
