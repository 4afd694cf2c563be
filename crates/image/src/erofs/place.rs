//! Where inodes go in a stretch of metadata.
//!
//! An inode starts at a multiple of [`SLOT`]. The last part of a file that is
//! kept behind its inode must lie in the same block as the inode's end; what is
//! left free for that is filled with inodes that fit.

use std::collections::BTreeSet;

use super::layout::{BLOCK, SLOT};

/// What of an inode may cross the border of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Borders {
    Cross,
    Avoid,
}

/// A stretch of metadata that grows.
#[derive(Debug, Default)]
pub(super) struct Places {
    end: usize,
    /// Free parts of blocks: length, start.
    gaps: BTreeSet<(usize, usize)>,
}

impl Places {
    /// Bytes of the stretch.
    pub(super) fn len(&self) -> usize {
        self.end
    }

    /// Takes `size` bytes, at most a block where borders are avoided; tells where.
    pub(super) fn take(&mut self, size: usize, borders: Borders) -> usize {
        let size = size.next_multiple_of(SLOT);
        if let Some(&gap) = self.gaps.range((size, 0)..).next() {
            self.gaps.remove(&gap);
            let (free, start) = gap;
            self.add_gap(start + size, free - size);
            return start;
        }
        let left = self.end.next_multiple_of(BLOCK) - self.end;
        if borders == Borders::Avoid && left > 0 && left < size {
            self.add_gap(self.end, left);
            self.end += left;
        }
        let start = self.end;
        self.end += size;
        start
    }

    fn add_gap(&mut self, start: usize, length: usize) {
        if length > 0 {
            self.gaps.insert((length, start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled() {
        let mut places = Places::default();
        let rows = [
            // (size, borders, place)
            (3000, Borders::Avoid, 0),
            (3000, Borders::Avoid, BLOCK),
            (64, Borders::Cross, 3008),
            (64, Borders::Avoid, 3072),
            (1020, Borders::Avoid, BLOCK + 3008),
            (2000, Borders::Cross, 2 * BLOCK - 64),
            (5000, Borders::Cross, 2 * BLOCK + 1952),
        ];
        for (size, borders, place) in rows {
            assert_eq!(places.take(size, borders), place, "{size}");
        }
        assert_eq!(places.len(), 2 * BLOCK + 1952 + 5024);
    }
}
