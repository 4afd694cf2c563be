//! Inputs as files, and answers of readers to them.

use std::fs::File;
use std::io::{Seek, Write};

use anyhow::{Context, Result};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Answer of a reader that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The reader read the input.
    Accepted,
    /// The reader returned an error.
    Refused,
}

/// Makes a file in memory with `bytes`, so that no disk slows down the fuzzing.
pub(super) fn in_memory(bytes: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).context("memfd")?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
