//! Files with holes, whose data an archive has without them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::pieces::{Piece, PieceReader, Pieces};
use crate::tree::{Reader, Stored};

/// Bytes of the largest file: what ext4 takes with blocks of 4 KiB.
const SIZE_MAX: u64 = 16 << 40;

/// A stretch of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
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
    stretches: Vec<Stretch>,
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
        let (mut stretches, mut done) = (Vec::new(), 0_u64);
        for &(at, length) in map {
            ensure!(at >= done, "pieces of a sparse file overlap");
            let beyond = "a piece of a sparse file is beyond its end";
            // Writers end a map with an empty one.
            if length > 0 {
                stretches.push(Stretch { at, from, size: length });
            }
            let sum = |at: u64, limit| at.checked_add(length).filter(|&sum| sum <= limit);
            (done, from) = (sum(at, size).context(beyond)?, sum(from, end).context(beyond)?);
        }
        Ok(Self { archive: Arc::clone(archive), stretches, size })
    }
}

impl Stored for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(PieceReader::new(self)))
    }
}

impl Pieces for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn file(&self) -> &File {
        &self.archive
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        // The first that does not end before the position.
        let next = self.stretches.partition_point(|data| data.at + data.size <= position);
        Ok(match self.stretches.get(next) {
            Some(&Stretch { at, from, size }) if at <= position => {
                let inside = position - at;
                Piece { at: Some(from + inside), length: size - inside }
            }
            next => {
                let end = next.map_or(self.size, |data| data.at);
                Piece { at: None, length: end - position }
            }
        })
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.archive.read_exact_at(buffer, at).context("read the archive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

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
        let mut reader = sparse.open().unwrap();
        for (hole, data) in [(2, "abcd"), (2, "ef"), (2, "")] {
            assert_eq!(reader.hole().unwrap(), hole);
            reader.skip(hole);
            let mut bytes = vec![0; data.len()];
            reader.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, data.as_bytes());
        }
        assert_eq!(reader.hole().unwrap(), 0);
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
