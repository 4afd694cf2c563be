//! Contents of sparse files in a tar archive, which stores their data without the holes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::tree::pieces::{Piece, PieceReader, Pieces};
use crate::tree::{Reader, Stored};

/// Bytes of the largest sparse file: the largest file of ext4 with blocks of 4 KiB.
const SIZE_MAX: u64 = 16 << 40;

/// One piece of data of a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    /// Offset in the sparse file.
    at: u64,
    /// Offset in the archive.
    from: u64,
    /// Number of bytes.
    size: u64,
}

/// A sparse file: the archive has some pieces of it, the rest is zeros.
#[derive(Debug)]
pub(super) struct SparseContent {
    archive: Arc<File>,
    stretches: Vec<Stretch>,
    size: u64,
}

impl SparseContent {
    /// A sparse file of `size` bytes. `map` has offset and length of each piece. The data of
    /// all pieces is in the archive, without gaps, from offset `from` to at most `end`.
    ///
    /// # Errors
    /// Pieces that overlap or are not in order; a piece beyond the end of the file or of the
    /// archive; a size above 16 TiB.
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
            // The last piece of a map may be empty; it marks the end of the file.
            if length > 0 {
                stretches.push(Stretch { at, from, size: length });
            }
            let sum = |at: u64, limit| at.checked_add(length).filter(|&sum| sum <= limit);
            (done, from) = (sum(at, size).context(beyond)?, sum(from, end).context(beyond)?);
        }
        Ok(Self { archive: Arc::clone(archive), stretches, size })
    }
}

impl Stored for SparseContent {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(PieceReader::new(self)))
    }
}

impl Pieces for SparseContent {
    fn size(&self) -> u64 {
        self.size
    }

    fn file(&self) -> &File {
        &self.archive
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        // Find the first piece that ends after the position.
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
    fn holes_are_zeros() {
        let map = [(2, 3), (5, 0), (5, 1), (8, 2), (12, 0)];
        let sparse = SparseContent::new(&archive(), 12, &map, 2, 8).unwrap();
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
            assert!(SparseContent::new(&archive(), size, map, 2, 8).is_err(), "{name}");
        }
    }
}
