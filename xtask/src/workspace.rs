//! Paths of the source tree, and how to call cargo in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Path at which `cargo xtask build` puts the program that runs the steps of recipes.
#[must_use]
pub fn step_path(root: &Path) -> PathBuf {
    root.join("target/guest/step")
}

/// The cargo that started this program, as a user would start it.
///
/// cargo tells the programs that it runs about their package. Some build scripts watch these
/// variables, as that of ring does: with them, cargo would compile such crates again, and all that
/// depend on them.
#[must_use]
pub fn cargo() -> Command {
    forget_package(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// `command` without the variables that describe the package of this program.
pub(crate) fn forget_package(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let is_of_package = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        if is_of_package("CARGO_MANIFEST_") || is_of_package("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

/// Directory in which cargo keeps the sources of crates.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let explicit = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    explicit.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// Arguments that choose the profile in which tests are built, which the environment variable
/// `TEST_PROFILE` names; none for that of cargo.
#[must_use]
pub fn test_profile() -> Vec<OsString> {
    let profile = std::env::var_os("TEST_PROFILE");
    profile.map_or_else(Vec::new, |profile| vec!["--profile".into(), profile])
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
