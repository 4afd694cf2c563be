//! Files in memory that have no name.
//!
//! Interface: memfd_create(2).

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create};

/// A file that holds `bytes`; its offset is behind them.
///
/// # Errors
/// Those of memfd_create(2) and write(2).
pub fn memory_file(bytes: &[u8]) -> Result<File> {
    let mut file = new_memory_file()?;
    file.write_all(bytes).context("write to memory")?;
    Ok(file)
}

/// An empty file.
///
/// # Errors
/// Those of memfd_create(2).
pub fn new_memory_file() -> Result<File> {
    let fd = memfd_create(c"virtinitrd", MemfdFlags::CLOEXEC).context("memfd_create")?;
    Ok(fd.into())
}
