//! The host's programs, `chrootvm` and `mkvirtinitrd`, in a checkout.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Builds both programs in `target/release`, where the scripts look for them.
///
/// # Errors
/// The build fails.
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

/// Path of the built `chrootvm`.
///
/// # Errors
/// cargo did not start this program.
pub fn chrootvm() -> Result<PathBuf> {
    Ok(workspace::root()?.join("target/release/chrootvm"))
}
