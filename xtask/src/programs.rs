//! The programs of the host, `chrootvm` and `mkvirtinitrd`, as a checkout has them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Builds them where the scripts look for them.
///
/// # Errors
/// A build that fails.
pub fn build() -> Result<()> {
    let root = workspace::root()?;
    let status = Command::new(workspace::cargo())
        .current_dir(&root)
        .args(["build", "--quiet", "--locked", "--release", "--package", "chrootvm"])
        .args(workspace::vendor_arguments(&root))
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo build of chrootvm failed");
    Ok(())
}

/// The built `chrootvm`.
///
/// # Errors
/// There is no source tree.
pub fn chrootvm() -> Result<PathBuf> {
    Ok(workspace::root()?.join("target/release/chrootvm"))
}
