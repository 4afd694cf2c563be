//! What the builds of the guest's programs have in common: their installation, and flags of
//! rustc that make them independent of directories.

use std::path::{Path, PathBuf};

use anyhow::Result;
use files::output;

use crate::workspace;

/// Writes the binary to `path`, unless that has these bytes already.
///
/// # Errors
/// The file cannot be written.
pub fn install(bytes: &[u8], path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::read(path).ok().as_deref() != Some(bytes) {
        output::write(path, bytes)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(path.to_path_buf())
}

/// Flags for rustc, so that panic locations depend neither on the directory of the tree nor on
/// that of cargo.
#[must_use]
pub fn remapped(root: &Path) -> Vec<String> {
    let mut flags = vec![format!("--remap-path-prefix={}=virtinitrd", root.display())];
    if let Some(home) = workspace::cargo_home() {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
        // They must not depend on cargo's directory for the registry, either. If two
        // prefixes match, the last one wins.
        let registries = std::fs::read_dir(home.join("registry/src")).into_iter().flatten();
        let mut paths: Vec<_> = registries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        flags.extend(
            paths.iter().map(|path| format!("--remap-path-prefix={}=cargo", path.display())),
        );
    }
    flags
}
