//! Files in memory, without a name.
//!
//! Interface: memfd_create(2).

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Makes a file with the contents `bytes`. Its position is at the end.
///
/// # Errors
/// Errors of memfd_create(2) and write(2).
pub fn memory_file(bytes: &[u8]) -> Result<File> {
    let mut file = new_memory_file()?;
    file.write_all(bytes).context("write to memory")?;
    Ok(file)
}

/// Makes an empty file.
///
/// # Errors
/// Errors of memfd_create(2).
pub fn new_memory_file() -> Result<File> {
    let fd = memfd_create(c"virtinitrd", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    Ok(fd.into())
}
