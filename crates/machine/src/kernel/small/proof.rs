//! The root file system in which a new kernel proves that it boots and runs a command: a
//! busybox and empty directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::toolchain::check_static;

/// Finds a statically linked busybox on this host.
///
/// # Errors
/// This host has no static busybox.
pub fn busybox() -> Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox", "/sbin/busybox", "/bin/busybox.static"];
    let is_static = |path: &&&str| fs::read(path).is_ok_and(|bytes| check_static(&bytes).is_ok());
    let found = places.iter().find(is_static);
    Ok(found
        .context(
            "no static busybox found: install busybox-static (in a checkout: scripts/setup demo)",
        )?
        .into())
}

/// Makes the directory `root` a root file system: mount points, busybox as `/bin/sh`, and
/// executable files, each given by path and text.
///
/// # Errors
/// A file cannot be written.
pub fn make_root(root: &Path, busybox: &Path, files: &[(&str, &str)]) -> Result<()> {
    for name in ["bin", "dev", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(busybox, root.join("bin/busybox")).context("copy busybox")?;
    symlink("busybox", root.join("bin/sh"))?;
    for (name, text) in files {
        let file = root.join(name);
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
