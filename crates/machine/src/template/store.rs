//! The directory of templates.
//!
//! Interfaces: the XDG Base Directory Specification; rename(2). The directory `virtinitrd/warm` in
//! the user's cache directory has one file for each template, which is named by its key.
//!
//! Invariants: a file appears whole or not at all, and never changes; only this user can write to
//! it and to its directory. The store keeps the `MOST` templates that were used last, and of
//! these at most `MOST_BYTES`. A template that is removed stays usable for a machine that has
//! opened it.
//!
//! Files are not synced: digests show that a power cut has lost a part of one.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::kept::{self, KeptFile, KeptFiles, Rules};
use files::output::{self, Output};

use super::file::Template;
use super::key::TemplateKey;
use super::save::save;
use crate::host;

/// Number of templates that the store keeps.
pub const MOST: usize = 8;
/// Bytes on the disk that all templates have together.
const MOST_BYTES: u64 = 2 << 30;
/// Permissions of a template.
const PRIVATE: u32 = 0o600;

/// Templates have holes, so their lengths say little.
const RULES: Rules = Rules {
    directory: "warm",
    unfinished: output::PREFIX,
    size: kept::size_on_disk,
    most: MOST,
    most_bytes: MOST_BYTES,
};

/// The directory of templates.
#[derive(Clone, Debug)]
pub struct TemplateStore {
    files: KeptFiles,
}

impl TemplateStore {
    /// The store of this user; `None` if there is no directory that can be used.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        Self::below(&host::user_cache()?)
    }

    /// The store below the cache directory `home`; `None` if it cannot be made, or another user
    /// might own it or write to it.
    #[must_use]
    pub fn below(home: &Path) -> Option<Self> {
        KeptFiles::below(home, &RULES).map(|files| Self { files })
    }

    /// Opens a template, and notes that it is used. `None`: there is none, or it is damaged.
    /// A damaged template is removed.
    #[must_use]
    pub fn find(&self, key: &TemplateKey) -> Option<Template> {
        let path = self.path(key);
        let opened = self.files.open(&key.to_string());
        let file = opened.unwrap_or_else(|error| {
            log::debug!("{} is not used: {error:#}", path.display());
            None
        })?;
        kept::note_use(&file);
        let template = Template::open(file, &path, key);
        if let Err(error) = &template {
            log::debug!("{} is removed: {error:#}", path.display());
            self.remove(key);
        }
        template.ok()
    }

    /// Keeps a template: `memory` of a machine that is stopped, and the `state` of its devices.
    /// Removes those that were not used for the longest time.
    ///
    /// # Errors
    /// It cannot be written. Then there is no template.
    pub fn keep(&self, key: &TemplateKey, memory: &File, state: &[u8]) -> Result<()> {
        // An output takes the permissions of the file that it replaces. That one cannot be used.
        self.remove(key);
        let path = self.path(key);
        let write = || {
            let output = Output::create(&path)?;
            output.file.set_permissions(Permissions::from_mode(PRIVATE))?;
            save(&output.file, key, memory, state)?;
            output.commit()
        };
        write().with_context(|| format!("keep {}", path.display()))?;
        self.files.clean(&key.to_string());
        Ok(())
    }

    /// Removes a template that turned out to be of no use.
    pub fn remove(&self, key: &TemplateKey) {
        let _ = fs::remove_file(self.path(key)); // another run may have removed it
    }

    /// All files of the store.
    #[must_use]
    pub fn list(&self) -> Vec<KeptFile> {
        self.files.list()
    }

    /// Removes the file `name`, which is in [`Self::list`]. A machine keeps its template open.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_named(&self, name: &str) -> Result<()> {
        self.files.remove(name)
    }

    fn path(&self, key: &TemplateKey) -> PathBuf {
        self.files.dir().join(key.to_string())
    }
}
