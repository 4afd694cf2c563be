//! The file of a template.

use std::fs::File;

use anyhow::{Result, bail};

/// A template, open for reading.
#[derive(Debug)]
pub struct Template {
    file: File,
    state: Vec<u8>,
}

impl Template {
    /// The file, whose first bytes are the memory of the machine.
    #[must_use]
    pub fn memory(&self) -> &File {
        &self.file
    }

    /// State of the devices, as QEMU has migrated it.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// Copies the memory into `memory`, which is empty and has its size. Holes stay holes.
    ///
    /// # Errors
    /// The template is damaged, or cannot be read.
    pub fn fill(&self, memory: &File) -> Result<()> {
        bail!("{memory:?}")
    }

    /// Reads all of the template.
    ///
    /// # Errors
    /// The template is damaged, or cannot be read.
    pub fn verify(&self) -> Result<()> {
        bail!("not kept")
    }
}
