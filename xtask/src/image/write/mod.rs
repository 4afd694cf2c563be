//! Images from a [`Tree`](super::tree::Tree).
//!
//! Every byte follows from the tree and the options alone. What a format cannot
//! hold is refused before anything is written, or noted where a guest can do
//! without it.

pub mod cpio;
pub mod dir;
pub mod disk;
pub mod squashfs;
pub mod tar;

use std::io::{Read, Write};

use anyhow::{Context, Result};

use super::tree::{Content, show};

/// Bytes copied at a time.
const BUFFER: usize = 1 << 17;

/// Copies contents of a file to an image, all of them.
pub(super) struct Copier {
    buffer: Vec<u8>,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER] }
    }

    /// # Errors
    /// What cannot be read, with `path`; or those of `out`.
    pub(super) fn copy(
        &mut self,
        path: &[u8],
        content: &Content,
        out: &mut dyn Write,
    ) -> Result<()> {
        let name = || format!("read {}", show(path));
        let mut input = content.open().with_context(name)?;
        loop {
            let count = input.read(&mut self.buffer).with_context(name)?;
            if count == 0 {
                return Ok(());
            }
            out.write_all(&self.buffer[..count]).context("write")?;
        }
    }
}
