//! `--keep`: saves the files of a run, so that a person can look into them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use files::tell;

/// Writes the initrd and the commands to a new private directory, and prints its path.
/// Returns the file for the console's text.
pub(super) fn keep(initrd: &[u8], commands: &OsStr) -> Result<File> {
    let dir = tempfile::Builder::new().prefix("chrootvm-").tempdir();
    let dir = dir.context("make a directory to keep files in")?.keep();
    let shown = dir.display();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.join(name), bytes).with_context(|| format!("write {shown}/{name}"))
    };
    write("initrd", initrd)?;
    write("commands", commands.as_bytes())?;
    let console = File::create_new(dir.join("console.log"));
    tell::note(format_args!("keeping initrd, commands and console.log in {shown}"));
    console.with_context(|| format!("make {shown}/console.log"))
}
