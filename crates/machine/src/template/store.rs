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

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use files::output::{self, Output};
use files::private_dir::{self, Writers};
use nix::libc::O_NOFOLLOW;

use super::file::Template;
use super::key::TemplateKey;
use super::save::save;
use crate::host;

/// Number of templates that the store keeps.
pub const MOST: usize = 8;
/// Bytes on the disk that all templates have together.
const MOST_BYTES: u64 = 2 << 30;
/// Age at which an unfinished file is removed: its writer must have been killed.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Permissions of a template.
const PRIVATE: u32 = 0o600;
/// Unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

/// The directory of templates.
#[derive(Clone, Debug)]
pub struct TemplateStore {
    dir: PathBuf,
}

/// File of the store, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTemplate {
    /// Its name.
    pub name: String,
    /// Bytes that it takes on the disk.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it is complete; otherwise it is being written, or its writer was killed.
    pub is_complete: bool,
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
        private_dir::below(home, "warm").map(|dir| Self { dir })
    }

    /// Opens a template, and notes that it is used. `None`: there is none, or it is damaged.
    /// A damaged template is removed.
    #[must_use]
    pub fn find(&self, key: &TemplateKey) -> Option<Template> {
        let path = self.path(key);
        let open = || {
            let file = match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let metadata = file.metadata()?;
            ensure!(metadata.is_file(), "it is not a file");
            let is_own = private_dir::writers_of(&metadata) == Writers::Own;
            ensure!(is_own, "other users can write to it");
            let _ = file.set_modified(SystemTime::now()); // fails on a read-only disk, where nothing is removed
            Template::open(file, &path, key).map(Some)
        };
        open().unwrap_or_else(|error| {
            log::debug!("{} is removed: {error:#}", path.display());
            self.remove(key);
            None
        })
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
        self.clean(&key.to_string(), SystemTime::now());
        Ok(())
    }

    /// Removes a template that turned out to be of no use.
    pub fn remove(&self, key: &TemplateKey) {
        let _ = fs::remove_file(self.path(key)); // another run may have removed it
    }

    /// All files of the store.
    #[must_use]
    pub fn list(&self) -> Vec<ListedTemplate> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let listed = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let is_complete = !name.starts_with(output::PREFIX);
            let (size, used) = (metadata.blocks() * BLOCK, metadata.modified().ok()?);
            Some(ListedTemplate { name, size, used, is_complete })
        });
        listed.collect()
    }

    /// Removes the file `name`, which is in [`Self::list`]. A machine keeps its template open.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_named(&self, name: &str) -> Result<()> {
        if !self.list().iter().any(|listed| listed.name == name) {
            return Ok(());
        }
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, key: &TemplateKey) -> PathBuf {
        self.dir.join(key.to_string())
    }

    /// Removes what is too much, but not the template `new`. Other processes may do the same at
    /// the same time.
    fn clean(&self, new: &str, now: SystemTime) {
        for name in surplus(self.list(), new, now) {
            let _ = fs::remove_file(self.dir.join(name)); // it is gone already, or the next run removes it
        }
    }
}

/// Names of the files to remove: those that were not used for the longest time, if there are too
/// many templates besides `new`, and unfinished files whose writers were killed.
fn surplus(mut all: Vec<ListedTemplate>, new: &str, now: SystemTime) -> Vec<String> {
    // The new one first, then the others, the one used last first.
    all.sort_by(|a, b| (b.name == new, b.used, &b.name).cmp(&(a.name == new, a.used, &a.name)));
    let (mut count, mut bytes) = (0, 0_u64);
    let mut is_surplus = |listed: &ListedTemplate| {
        if !listed.is_complete {
            return now.duration_since(listed.used).is_ok_and(|age| age > ABANDONED);
        }
        count += 1;
        bytes = bytes.saturating_add(listed.size);
        listed.name != new && (count > MOST || bytes > MOST_BYTES)
    };
    all.into_iter().filter(|listed| is_surplus(listed)).map(|listed| listed.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_removed_but_never_the_new_template() {
        const GIB: u64 = 1 << 30;
        let now = SystemTime::now();
        let file = |name: &str, size, age| ListedTemplate {
            name: name.into(),
            size,
            used: now - Duration::from_secs(age),
            is_complete: !name.starts_with(output::PREFIX),
        };
        let surplus = |all: &[(&str, u64, u64)]| {
            let all = all.iter().map(|(name, size, age)| file(name, *size, *age)).collect();
            surplus(all, "new", now)
        };
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, 1, 9)).into();
        assert_eq!(surplus(&many), [""; 0]);
        assert_eq!(surplus(&[&many[..], &[("new", 1, 99)]].concat()), ["a"]);
        assert_eq!(surplus(&[("a", GIB, 3), ("b", GIB / 2, 1), ("new", GIB / 2, 0)]), [""; 0]);
        assert_eq!(surplus(&[("a", GIB, 3), ("b", GIB, 1), ("new", 1, 0)]), ["a"]);
        assert_eq!(surplus(&[("a", 1, 3), ("new", 3 * GIB, 0)]), ["a"]);
        let unfinished =
            [(".virtinitrd-1", 3 * GIB, 60), (".virtinitrd-2", 0, 3601), ("new", 1, 0)];
        assert_eq!(surplus(&unfinished), [".virtinitrd-2"]);
    }
}
