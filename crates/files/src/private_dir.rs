//! Directories that only this user writes to, for caches.
//!
//! Interfaces: stat(2); the XDG Base Directory Specification, version 0.8. What others could
//! have written must not become a part of a machine, so a directory or file of a cache is
//! used only if this user owns it, and neither its group nor others can write to it.

use std::fs::{DirBuilder, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Mode bits that let the group or others write (`S_IWGRP`, `S_IWOTH`).
const OTHERS_WRITE: u32 = 0o022;

/// Users who may write to a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Only the current user.
    Own,
    /// The current user, who owns it, and others.
    Shared,
    /// Another user owns it, or it is missing.
    Foreign,
}

/// The users who may write to what `path` leads to.
#[must_use]
pub fn writers(path: &Path) -> Writers {
    path.metadata().map_or(Writers::Foreign, |metadata| writers_of(&metadata))
}

/// The users who may write to a file with this `metadata`.
#[must_use]
pub fn writers_of(metadata: &Metadata) -> Writers {
    match (metadata.uid() == geteuid().as_raw(), metadata.mode() & OTHERS_WRITE) {
        (false, _) => Writers::Foreign,
        (true, 0) => Writers::Own,
        (true, _) => Writers::Shared,
    }
}

/// The directory `base/virtinitrd/name`, which is made if it is missing. `None` if it cannot
/// be made, or another user might own it or write to it.
#[must_use]
pub fn below(base: &Path, name: &str) -> Option<PathBuf> {
    let virtinitrd = base.join("virtinitrd");
    let dir = virtinitrd.join(name);
    for dir in [base, &virtinitrd, &dir] {
        // The checks below notice a directory that could not be made.
        let _ = DirBuilder::new().mode(0o700).recursive(dir == base).create(dir);
    }
    // Others who may write to `base` can remove the whole cache, but not change it.
    let is_safe = writers(base) != Writers::Foreign
        && [&virtinitrd, &dir].into_iter().all(|dir| writers(dir) == Writers::Own);
    is_safe.then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_can_write_to_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("made");
        let dir = below(&base, "x").unwrap();
        assert_eq!(dir, base.join("virtinitrd/x"));
        assert_eq!(below(&base, "x").as_ref(), Some(&dir));
        for (path, mode, is_used) in [
            (&dir, 0o720, false),
            (&dir, 0o755, true),
            (&base.join("virtinitrd"), 0o702, false),
            (&base.join("virtinitrd"), 0o700, true),
            (&base, 0o777, true),
        ] {
            set_permissions(path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(below(&base, "x").is_some(), is_used, "{} {mode:o}", path.display());
        }
        assert_eq!(below(Path::new("/proc/self/fdinfo"), "x"), None);
    }
}
