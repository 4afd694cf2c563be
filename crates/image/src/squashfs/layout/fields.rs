//! Little-endian fields, read one after another.

use anyhow::{Context, Result};

/// Source of fields: a slice of bytes, or a metadata stream.
pub(in crate::squashfs) trait Fields {
    /// Fills `out` with the next bytes.
    ///
    /// # Errors
    /// The source has fewer bytes.
    fn fill(&mut self, out: &mut [u8]) -> Result<()>;

    /// Reads the next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.fill(&mut out).map(|()| out)
    }

    /// Reads a 16-bit number.
    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Reads a 32-bit number.
    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a 64-bit number.
    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl Fields for &[u8] {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let (bytes, rest) = self.split_at_checked(out.len()).context("it is cut off")?;
        out.copy_from_slice(bytes);
        *self = rest;
        Ok(())
    }
}
