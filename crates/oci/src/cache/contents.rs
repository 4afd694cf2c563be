//! What a cache contains: listed, checked, and removed by rules.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::object::{self, PART, files_in, hold_unused};
use super::record::{self, RECORD};
use super::{Access, Cache, Kind, refs};
use crate::name::digest::{Digest, Hasher};

/// Bytes of a block of `st_blocks` (stat(2)).
const STAT_BLOCK: u64 = 512;

/// Age of a small file at which no run that is still going on needs it.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// An object of a cache.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its digest, or the key of an image.
    pub name: String,
    /// A name for people; empty if there is none.
    pub label: String,
    /// Bytes that it takes on the disk.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it is complete. An incomplete object is being made, or was left by a run that
    /// was interrupted.
    pub is_complete: bool,
    path: PathBuf,
}

impl Object {
    /// Whether a process uses the object, or makes it.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        object::is_in_use(&self.path)
    }
}

/// Objects and bytes that a removal took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Number of objects that were removed.
    pub count: u64,
    /// Bytes that they took on the disk.
    pub bytes: u64,
    /// Number of objects that stay because they are in use.
    pub in_use: u64,
}

impl Cache {
    /// All objects; those that were not used for the longest time come first.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let Some(dir) = self.dir().map(|dir| dir.join(kind.directory())) else { continue };
            let prefixes = match kind {
                Kind::Image => vec![None],
                Kind::Blob | Kind::Layer => vec![Some("sha256"), Some("sha512")],
            };
            for prefix in prefixes {
                let dir = prefix.map_or_else(|| dir.clone(), |prefix| dir.join(prefix));
                let files = files_in(&dir)?;
                found.extend(
                    files
                        .into_iter()
                        .filter_map(|(path, file)| object_at(kind, prefix, path, &file)),
                );
            }
        }
        found.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        Ok(found)
    }

    /// Removes all objects that `is_chosen` accepts and that nobody uses.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn prune(&self, is_chosen: impl Fn(&Object) -> bool) -> Result<Removed> {
        let mut removed = Removed::default();
        for found in self.list()?.iter().filter(|found| is_chosen(found)) {
            removed.take(found)?;
        }
        self.sweep()?;
        Ok(removed)
    }

    /// Removes small files that interrupted runs left behind: records without an object,
    /// references to documents of which nothing is left, and incomplete references.
    fn sweep(&self) -> Result<()> {
        let Some(dir) = self.dir() else { return Ok(()) };
        let is_old = |file: &Metadata| {
            let age = file.modified().ok().and_then(|time| time.elapsed().ok());
            age.is_some_and(|age| age > LEFT_BEHIND)
        };
        for dir in ["layers/sha256", "layers/sha512", "images"].map(|name| dir.join(name)) {
            for (path, file) in files_in(&dir)? {
                let name = path.to_str().and_then(|name| name.strip_suffix(RECORD));
                let is_alone = name.is_some_and(|name| !Path::new(name).exists());
                if is_alone && is_old(&file) {
                    object::remove_name(&path)?;
                }
            }
        }
        let images = files_in(&dir.join(Kind::Image.directory()))?;
        let images: Vec<_> = images
            .iter()
            .filter_map(|(path, _)| path.file_name()?.to_str())
            .filter(|name| !name.ends_with(RECORD))
            .collect();
        for (path, file) in files_in(&dir.join(refs::DIRECTORY))? {
            let is_of_use = refs::read(&path).is_some_and(|seen| {
                let (algorithm, digits) = seen.digest.parts();
                // The config of a local image is not a blob here, but in the key of its image.
                dir.join(Kind::Blob.directory()).join(algorithm).join(digits).exists()
                    || images.iter().any(|key| key.contains(digits))
            });
            if !is_of_use && is_old(&file) {
                object::remove_name(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the objects that were not used for the longest time, until at most `size` bytes
    /// are left.
    ///
    /// # Errors
    /// Those of [`Cache::prune`].
    pub fn prune_to(&self, size: u64) -> Result<Removed> {
        let found = self.list()?;
        let mut total: u64 = found.iter().map(|found| found.size).sum();
        let mut removed = Removed::default();
        for found in &found {
            if total <= size {
                break;
            }
            if removed.take(found)? {
                total -= found.size;
            }
        }
        Ok(removed)
    }

    /// Removes what exceeds the bounds of the cache. A failure is only a warning: what the caller
    /// wants is in the cache already.
    pub(crate) fn trim(&self) {
        if self.access == Access::ReadOnly {
            return;
        }
        if let Err(error) = self.prune_to(self.bounds.max_size) {
            log::warn!("the cache of images may become too large: {error:#}");
        }
    }

    /// Reads all complete objects, and removes those that are damaged. Calls `tell` with each
    /// object and whether it is intact.
    ///
    /// # Errors
    /// A file that cannot be read or removed.
    pub fn verify(&self, tell: &mut dyn FnMut(&Object, bool)) -> Result<()> {
        for found in self.list()?.iter().filter(|found| found.is_complete) {
            let Some(held) = hold_unused(&found.path)? else { continue };
            let is_recorded = || record::is_intact(&found.path, held.file());
            let is_intact = match found.kind {
                Kind::Blob => has_name(found, held.file())?,
                Kind::Layer => is_recorded() && has_name(found, held.file())?,
                Kind::Image => is_recorded(),
            };
            if !is_intact && object::remove_held(&held)? {
                object::remove_name(&record::path_of(&found.path))?;
            }
            tell(found, is_intact);
        }
        Ok(())
    }
}

impl Removed {
    /// Removes an object; returns whether it is removed.
    fn take(&mut self, found: &Object) -> Result<bool> {
        let records = match found.is_complete {
            true => vec![record::path_of(&found.path)],
            false => Vec::new(),
        };
        let is_removed = object::remove(&found.path, &records)?;
        match is_removed {
            true => (self.count, self.bytes) = (self.count + 1, self.bytes + found.size),
            false => self.in_use += 1,
        }
        Ok(is_removed)
    }
}

/// Whether the bytes of `file` have the digest that is the name of the object.
fn has_name(found: &Object, file: &File) -> Result<bool> {
    let Ok(digest) = found.name.parse::<Digest>() else { return Ok(false) };
    has_digest(file, &digest).with_context(|| format!("read {}", found.path.display()))
}

/// Whether the bytes of `file` have the digest `digest`.
pub(crate) fn has_digest(file: &File, digest: &Digest) -> io::Result<bool> {
    let mut hasher = Hasher::new(digest.algorithm());
    io::copy(&mut archive::bytes::At { file, offset: 0 }, &mut hasher)?;
    Ok(hasher.finish() == *digest)
}

fn object_at(
    kind: Kind,
    prefix: Option<&str>,
    path: PathBuf,
    metadata: &Metadata,
) -> Option<Object> {
    let name = path.file_name()?.to_str()?;
    if name.ends_with(RECORD) {
        return None;
    }
    let stem = name.strip_suffix(PART);
    let name = stem.unwrap_or(name);
    let name = prefix.map_or_else(|| name.to_owned(), |prefix| format!("{prefix}:{name}"));
    let is_complete = stem.is_none();
    let has_record = is_complete && kind != Kind::Blob;
    let label = if has_record { record::label(&path) } else { String::new() };
    let used = metadata.accessed().ok().max(metadata.modified().ok())?;
    let size = metadata.blocks() * STAT_BLOCK;
    Some(Object { kind, name, label, size, used, is_complete, path })
}
