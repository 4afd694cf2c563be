//! An input as a file, and the answer of a reader to it.

use std::fs::File;
use std::io::{Seek, Write};

use anyhow::{Context, Result};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Answer of a reader that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The input made sense.
    Accepted,
    /// The input was an error.
    Refused,
}

/// A file in memory, which takes no time of a disk.
pub(super) fn in_memory(bytes: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).context("memfd")?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
