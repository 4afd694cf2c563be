//! The directory of templates.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::file::Template;
use super::key::TemplateKey;

/// The directory of templates.
#[derive(Debug)]
pub struct TemplateStore {
    dir: PathBuf,
}

impl TemplateStore {
    /// The store of this user; `None` if there is no directory that can be used.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        None
    }

    /// The store below the cache directory `home`.
    #[must_use]
    pub fn below(home: &Path) -> Option<Self> {
        Some(Self { dir: home.join("warm") })
    }

    /// Opens a template, and notes that it is used. `None`: there is none, or it is damaged.
    #[must_use]
    pub fn find(&self, key: &TemplateKey) -> Option<Template> {
        log::debug!("{key:?} {}", self.dir.display());
        None
    }

    /// Keeps a template: `memory` of a machine that is stopped, and the `state` of its devices.
    /// Removes those that were not used for the longest time.
    ///
    /// # Errors
    /// It cannot be written. Then there is no template.
    pub fn keep(&self, key: &TemplateKey, memory: &File, state: &[u8]) -> Result<()> {
        bail!("{key:?} {memory:?} {}", state.len())
    }

    /// Removes a template that turned out to be of no use.
    pub fn remove(&self, key: &TemplateKey) {
        log::debug!("{key:?}");
    }
}
