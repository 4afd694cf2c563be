//! Reader of the names of a directory.
//!
//! Format: see `layout::dirents`. The image is not trusted: no name reaches beyond the size
//! of its directory.

use anyhow::{Context, Result, ensure};

use crate::squashfs::layout::dirents::{RUN_ENTRY, RUN_HEADER, RUN_MAX};
use crate::squashfs::layout::fields::Fields;
use crate::squashfs::layout::position::Position;

/// Reader of the names of one directory.
pub(super) struct NameReader<F> {
    fields: F,
    /// Bytes of the directory that are left.
    left: u32,
    /// Names that are left in the current run.
    run: u32,
    /// Metadata block of the inodes of the current run.
    block: u32,
}

impl<F: Fields> NameReader<F> {
    /// Reader of a directory of `size` bytes, whose names start at the next field.
    pub(super) fn new(fields: F, size: u32) -> Self {
        Self { fields, left: size, run: 0, block: 0 }
    }

    /// Reads the next name, with the position of its inode.
    ///
    /// # Errors
    /// The directory is damaged.
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, Position)>> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            self.take(RUN_HEADER)?;
            let last = self.fields.u32()?;
            ensure!(last < RUN_MAX, "a run has more than 256 names");
            self.run = last + 1;
            self.block = self.fields.u32()?;
            self.fields.u32()?;
        }
        self.run -= 1;
        self.take(RUN_ENTRY)?;
        let offset = self.fields.u16()?;
        // Skip number and type, which the inode has as well.
        self.fields.u32()?;
        let length = u32::from(self.fields.u16()?) + 1;
        self.take(length)?;
        let mut name = vec![0; length as usize];
        self.fields.fill(&mut name)?;
        Ok(Some((name, Position { block: self.block, offset })))
    }

    /// Subtracts `size` from the bytes that are left.
    fn take(&mut self, size: u32) -> Result<()> {
        self.left = self.left.checked_sub(size).context("a name reaches beyond its directory")?;
        Ok(())
    }
}
