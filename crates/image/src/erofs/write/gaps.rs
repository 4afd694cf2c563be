//! Positions of inodes in a stretch of metadata.
//!
//! Format: kernel doc filesystems/erofs.rst, "Inline data". An inode starts at a multiple
//! of [`SLOT`]. If the end of a file follows its inode, inode and end must lie in one
//! block. The gaps that this leaves are filled with smaller inodes.

use std::collections::BTreeSet;

use crate::erofs::layout::units::{BLOCK, SLOT};

/// Whether an inode and the bytes that follow it may cross a block boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// Inode and bytes may lie in several blocks.
    Cross,
    /// Inode and bytes must lie in one block.
    Avoid,
}

/// Layout of a stretch of metadata that grows at its end.
#[derive(Debug, Default)]
pub(super) struct InodeArea {
    /// Bytes in use, gaps included.
    end: usize,
    /// Free parts of blocks, as length and start.
    gaps: BTreeSet<(usize, usize)>,
}

impl InodeArea {
    /// Number of bytes of the stretch.
    pub(super) fn len(&self) -> usize {
        self.end
    }

    /// Reserves `size` bytes and returns their position. With [`Boundary::Avoid`], `size`
    /// is at most a block.
    pub(super) fn take(&mut self, size: usize, boundary: Boundary) -> usize {
        let size = size.next_multiple_of(SLOT);
        if let Some(&gap) = self.gaps.range((size, 0)..).next() {
            self.gaps.remove(&gap);
            let (free, start) = gap;
            self.add_gap(start + size, free - size);
            return start;
        }
        let left = self.end.next_multiple_of(BLOCK) - self.end;
        if boundary == Boundary::Avoid && left > 0 && left < size {
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
    fn small_inodes_fill_gaps() {
        let mut area = InodeArea::default();
        let rows = [
            // (size, boundary, position)
            (3000, Boundary::Avoid, 0),
            (3000, Boundary::Avoid, BLOCK),
            (64, Boundary::Cross, 3008),
            (64, Boundary::Avoid, 3072),
            (1020, Boundary::Avoid, BLOCK + 3008),
            (2000, Boundary::Cross, 2 * BLOCK - 64),
            (5000, Boundary::Cross, 2 * BLOCK + 1952),
        ];
        for (size, boundary, position) in rows {
            assert_eq!(area.take(size, boundary), position, "{size}");
        }
        assert_eq!(area.len(), 2 * BLOCK + 1952 + 5024);
    }
}
