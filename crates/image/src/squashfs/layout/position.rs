//! Positions in a metadata stream, and the references that hold them.
//!
//! Format: a reference (`squashfs_inode`, `SQUASHFS_MKINODE`) is the address of a metadata
//! block, counted from the start of its table, shifted left by 16 bits, plus an offset into
//! the unpacked block.

use anyhow::{Context, Result};

/// Position in a metadata stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::squashfs) struct Position {
    /// Address of the block, from the start of the table (`SQUASHFS_INODE_BLK`).
    pub block: u32,
    /// Offset in the unpacked block (`SQUASHFS_INODE_OFFSET`).
    pub offset: u16,
}

impl Position {
    /// Encodes the position as a reference.
    pub(in crate::squashfs) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }

    /// Decodes a reference.
    ///
    /// # Errors
    /// The address has more than 32 bits.
    pub(in crate::squashfs) fn of_reference(reference: u64) -> Result<Self> {
        let block = u32::try_from(reference >> 16);
        let block = block.ok().with_context(|| format!("the reference {reference:#x} is wrong"))?;
        let [low, high, ..] = reference.to_le_bytes();
        Ok(Self { block, offset: u16::from_le_bytes([low, high]) })
    }
}
