//! Paths of the source tree, and how to call cargo in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Root of the workspace, which cargo passes in `CARGO_MANIFEST_DIR`.
///
/// # Errors
/// cargo did not start this program.
pub fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("this subcommand needs the source tree: run it as `cargo xtask …` there")?;
    let root = Path::new(&xtask).parent().context("CARGO_MANIFEST_DIR has no parent")?;
    Ok(root.to_path_buf())
}

/// Path at which `cargo xtask build` puts `/init`.
#[must_use]
pub fn init_path(root: &Path) -> PathBuf {
    root.join("target/guest/init")
}

/// Path at which `cargo xtask build` puts the program that runs the steps of recipes.
#[must_use]
pub fn step_path(root: &Path) -> PathBuf {
    root.join("target/guest/step")
}

/// The cargo that started this program.
#[must_use]
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Directory in which cargo keeps the sources of crates.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let explicit = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    explicit.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Arguments that make cargo take crates from `vendor/`, if that exists.
#[must_use]
pub fn vendor_arguments(root: &Path) -> Vec<OsString> {
    let config = root.join("vendor/config.toml");
    match config.exists() {
        true => vec!["--config".into(), config.into()],
        false => Vec::new(),
    }
}
