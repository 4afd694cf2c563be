//! The source tree, for the subcommands that need one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace's root, as `cargo xtask` tells it.
///
/// # Errors
/// Where this binary was not started by cargo: an installed one has no tree.
pub fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("this subcommand needs the source tree: run it as `cargo xtask …` there")?;
    let root = Path::new(&xtask).parent().context("CARGO_MANIFEST_DIR has no parent")?;
    Ok(root.to_path_buf())
}

/// Where `cargo xtask build` puts `/init`.
#[must_use]
pub fn init_path(root: &Path) -> PathBuf {
    root.join("target/guest/init")
}

/// The cargo that started us.
#[must_use]
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where cargo keeps the sources of crates.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let explicit = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    explicit.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Arguments that make cargo take crates from `vendor/`, where there is one.
#[must_use]
pub fn vendor_arguments(root: &Path) -> Vec<OsString> {
    let config = root.join("vendor/config.toml");
    match config.exists() {
        true => vec!["--config".into(), config.into()],
        false => Vec::new(),
    }
}
