//! A private directory in `$TMPDIR` for the files that a program reads.
//!
//! Interfaces: the crate `tempfile`; [`image::write::dir`], which follows no links. The caller
//! keeps signals off until the directory is gone ([`files::output::without_signals`]).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::notes::Notes;
use image::progress::Progress;
use image::tree::{Kind, Meta, Tree};
use image::write::dir;
use nix::unistd::{getegid, geteuid};
use tempfile::TempDir;

/// Prefix of the directory's name.
const PREFIX: &str = "virtinitrd-";

/// A private directory. It is removed at the end.
#[derive(Debug)]
pub(super) struct Staged(TempDir);

impl Staged {
    /// Makes the directory.
    ///
    /// # Errors
    /// `$TMPDIR` does not exist, or cannot be written to.
    pub(super) fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir();
        let place = std::env::temp_dir();
        Ok(Self(dir.with_context(|| format!("make a directory in {}", place.display()))?))
    }

    /// Path of the directory.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes `tree` as the directory `files` in it, and returns its path.
    ///
    /// # Errors
    /// Those of [`dir::write`].
    pub(super) fn write(
        &self,
        tree: &Tree,
        notes: &mut Notes,
        progress: &Progress,
    ) -> Result<PathBuf> {
        let path = self.path().join("files");
        dir::write(tree, &path, notes, progress)?;
        Ok(path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Without root, directories that cannot be written to would stay.
        if !geteuid().is_root() {
            open_up(self.path());
        }
    }
}

/// Permits this user to remove what is in the directories below `dir`.
fn open_up(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // If it fails, removing tells nobody either: the directory stays in $TMPDIR.
            let _ = fs::set_permissions(entry.path(), Permissions::from_mode(0o700));
            open_up(&entry.path());
        }
    }
}

/// Metadata of a staged file: this user owns it, and only this user reads it.
pub(super) fn own(kind: &Kind) -> Meta {
    let permissions = if matches!(kind, Kind::Directory(_)) { 0o700 } else { 0o600 };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    Meta { permissions, uid, gid, ..Meta::default() }
}
