//! What the members of archives may need in memory besides their names.
//!
//! All layers of an image share one budget, because their members are in one tree.

use anyhow::{Result, ensure};

/// What further members may have. Members that were replaced or removed count, too.
#[derive(Clone, Debug)]
pub struct Budget {
    xattrs: Left,
    pieces: Left,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    left: usize,
    max: usize,
}

impl Left {
    const fn new(max: usize) -> Self {
        Self { left: max, max }
    }

    fn has(self, count: usize) -> bool {
        count <= self.left
    }
}

impl Budget {
    /// For one archive: attributes of 1 GiB, and sparse files of 4 million pieces, which need
    /// about 100 MB.
    pub const ARCHIVE: Self = Self { xattrs: Left::new(1 << 30), pieces: Left::new(1 << 22) };

    /// For all layers of an image, which is trusted less: attributes of 256 MiB, and sparse
    /// files of 1 million pieces.
    pub const IMAGE: Self = Self { xattrs: Left::new(256 << 20), pieces: Left::new(1 << 20) };

    /// Takes `bytes` for the attributes of a member. Attributes of a global header count for
    /// each member: in memory the members share them, but an image stores them for each.
    pub(super) fn take_xattrs(&mut self, bytes: usize) -> Result<()> {
        let Left { max, .. } = self.xattrs;
        ensure!(self.xattrs.has(bytes), "the attributes have more than {} MiB", max >> 20);
        self.xattrs.left -= bytes;
        Ok(())
    }

    /// Takes `count` pieces of a sparse file.
    pub(super) fn take_pieces(&mut self, count: usize) -> Result<()> {
        self.check_pieces(count)?;
        self.pieces.left -= count;
        Ok(())
    }

    /// Checks whether [`Self::take_pieces`] will work.
    pub(super) fn check_pieces(&self, count: usize) -> Result<()> {
        let Left { max, .. } = self.pieces;
        ensure!(self.pieces.has(count), "sparse files have more than {max} pieces");
        Ok(())
    }
}
