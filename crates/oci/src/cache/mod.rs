//! The cache: documents, blobs, unpacked layers and built images, kept by their contents.
//!
//! | Path | Contents | Checked when it is used |
//! |---|---|---|
//! | `blobs/ALGORITHM/HEX` | documents, layers as a registry sends them, files by their addresses | size if it is known, and digest |
//! | `layers/ALGORITHM/HEX` | unpacked layers, by their `diff_id` | record |
//! | `images/KEY` | images that were built from layers | record |
//! | `refs/HEX` | which document a reference led to, and when | digest of the document |
//!
//! | Module | Contents |
//! |---|---|
//! | `blobs` | documents and blobs: found by their digests, or begun |
//! | `directory` | the directory of the cache, which belongs to one user |
//! | `object` | files that appear whole, shared by several processes |
//! | `record` | size and time of complete objects |
//! | [`refs`] | what references led to |
//! | [`contents`] | lists, checks and removes objects |
//!
//! The cache belongs to one user and is closed to others: whoever can write to it decides what
//! is booted. A program that ends at any moment leaves a usable cache: locks end with it, an
//! incomplete blob is continued, and everything else incomplete is made again.

mod blobs;
pub mod contents;
mod directory;
mod object;
mod record;
pub mod refs;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

pub(crate) use self::blobs::Blob;
use self::directory::{check_owner, is_readable, is_unwritable, make_directory, prepare};
use self::object::{Claim, hold};
pub use self::object::{Held, Part, Wait};
use crate::name::digest::Digest;

/// Most bytes of a key of an image, so that its file name and endings fit into 255.
const KEY_MAX: usize = 200;

/// Kind of an object, which is the name of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A document, a layer as a registry sends it, or a file that was fetched by its address.
    Blob,
    /// An unpacked layer.
    Layer,
    /// An image that was built from layers.
    Image,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Blob, Self::Layer, Self::Image];

    /// The name of the directory.
    #[must_use]
    pub fn directory(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Layer => "layers",
            Self::Image => "images",
        }
    }
}

/// How much a cache keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes of all objects together. What was not used for the longest time is removed
    /// first, and nothing that is in use.
    pub max_size: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_size: 20 << 30 }
    }
}

/// What this process may do with the directory of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    ReadWrite,
    /// What is there is used, and nothing new is kept.
    ReadOnly,
}

/// A cache, or the absence of one.
#[derive(Debug)]
pub struct Cache {
    /// The directory; `None` if nothing is kept.
    dir: Option<PathBuf>,
    bounds: Bounds,
    access: Access,
}

impl Cache {
    /// Opens the cache `virtinitrd/oci` below the cache directory `base` of a user.
    ///
    /// # Errors
    /// Those of [`Cache::open`], also for the directory `virtinitrd`: whoever can write to it can
    /// put another directory in the place of the cache.
    pub fn below(base: &Path, bounds: Bounds) -> Result<Self> {
        let parent = base.join("virtinitrd");
        let cache = Self::open(&parent.join("oci"), bounds)?;
        if cache.dir.is_some() {
            check_owner(&parent).with_context(|| format!("cache {}", parent.display()))?;
        }
        Ok(cache)
    }

    /// Opens the cache in `dir`, and makes the directory if it is missing. If the directory
    /// cannot be written to, there is a warning, and nothing new is kept.
    ///
    /// # Errors
    /// A directory of another user, or one that others can write to.
    pub fn open(dir: &Path, bounds: Bounds) -> Result<Self> {
        let context = || format!("cache {}", dir.display());
        let access = match prepare(dir) {
            Ok(()) => Access::ReadWrite,
            Err(error) if is_unwritable(&error) => {
                log::warn!("images are not kept: {}: {error}", dir.display());
                if !is_readable(dir) {
                    return Ok(Self::unkept());
                }
                Access::ReadOnly
            }
            Err(error) => return Err(error).with_context(context),
        };
        check_owner(dir).with_context(context)?;
        Ok(Self { dir: Some(dir.to_path_buf()), bounds, access })
    }

    /// A cache that keeps nothing: what must be in a file is in an unlinked one.
    #[must_use]
    pub fn unkept() -> Self {
        Self { dir: None, bounds: Bounds::default(), access: Access::ReadOnly }
    }

    /// The directory; `None` if nothing is kept.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The unpacked layer `diff_id`; `None` if it is missing or damaged.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn find_layer(&self, diff_id: &Digest) -> Result<Option<Held>> {
        let Some(path) = self.object(Kind::Layer, diff_id)? else { return Ok(None) };
        Ok(hold(&path)?.filter(|held| record::is_intact(&path, held.file())))
    }

    /// The unpacked layer `diff_id`. If it is missing, `build` writes it to an empty file.
    /// `wait` says what happens while another process does so.
    ///
    /// # Errors
    /// Those of `build`; then nothing is kept.
    pub fn layer(
        &self,
        diff_id: &Digest,
        wait: Wait<'_>,
        build: impl FnOnce(&File) -> Result<()>,
    ) -> Result<Held> {
        self.make(self.object(Kind::Layer, diff_id)?, "", wait, build)
    }

    /// The image `key` if it was built before.
    ///
    /// # Errors
    /// A key that is no file name; a file that cannot be opened.
    pub fn find_image(&self, key: &str) -> Result<Option<Held>> {
        let Some(path) = self.image_path(key)? else { return Ok(None) };
        Ok(hold(&path)?.filter(|held| record::is_intact(&path, held.file())))
    }

    /// The image `key`, which must name everything that its bytes depend on. What a reference led
    /// to is remembered as long as there is an image with its digits in the key. If it is missing,
    /// `build` writes it to an empty file; of several processes one does so, and the others
    /// wait. `label` is a name for people. The image is not removed as long as the result, or a
    /// descriptor of its file, is open.
    ///
    /// # Errors
    /// A key that is no file name; those of `build`, then nothing is kept.
    pub fn image(
        &self,
        key: &str,
        label: &str,
        build: impl FnOnce(&File) -> Result<()>,
    ) -> Result<Held> {
        let begin = || log::info!("waiting for another process that builds the same image");
        let wait = Wait { begin: &begin, ..Wait::SILENT };
        let held = self.make(self.image_path(key)?, label, wait, build)?;
        self.trim();
        Ok(held)
    }

    fn image_path(&self, key: &str) -> Result<Option<PathBuf>> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        ensure!(
            (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(is_fine),
            "key \"{}\": up to {KEY_MAX} letters, digits, - and _",
            key.escape_debug()
        );
        let Some(dir) = &self.dir else { return Ok(None) };
        let dir = dir.join(Kind::Image.directory());
        self.make_directory(&dir)?;
        Ok(Some(dir.join(key)))
    }

    /// Says what helps if an error has the cause that the file system of the cache is full.
    pub(crate) fn with_hint(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.dir {
            Some(dir) if self.keeps() => with_hint(error, dir),
            _ => error,
        }
    }

    /// The path of an object, whose directory exists then.
    fn object(&self, kind: Kind, digest: &Digest) -> Result<Option<PathBuf>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let (algorithm, digits) = digest.parts();
        let dir = dir.join(kind.directory()).join(algorithm);
        self.make_directory(&dir)?;
        Ok(Some(dir.join(digits)))
    }

    fn make_directory(&self, dir: &Path) -> Result<()> {
        if self.keeps() { make_directory(dir) } else { Ok(()) }
    }

    /// Whether new objects are kept.
    fn keeps(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// The object `path`, or a file for it: one without a name if nothing new is kept.
    fn claim(
        &self,
        path: &Path,
        is_valid: &dyn Fn(&File) -> bool,
        wait: Wait<'_>,
    ) -> Result<Claim> {
        if self.keeps() {
            return object::claim(path, is_valid, wait);
        }
        match hold(path)?.filter(|held| is_valid(held.file())) {
            Some(held) => Ok(Claim::Complete(held)),
            None => Part::unlinked().map(Claim::Missing),
        }
    }

    /// The object `path` with its record, made by `build` if it is missing.
    fn make(
        &self,
        path: Option<PathBuf>,
        label: &str,
        wait: Wait<'_>,
        build: impl FnOnce(&File) -> Result<()>,
    ) -> Result<Held> {
        let Some(path) = path else {
            let part = Part::unlinked()?;
            build(part.file())?;
            return part.commit();
        };
        let is_valid = |file: &File| record::is_intact(&path, file);
        let part = match self.claim(&path, &is_valid, wait)? {
            Claim::Complete(held) => return Ok(held),
            Claim::Missing(part) => part,
        };
        let done = part.clear().and_then(|()| build(part.file()));
        let record = || match self.keeps() {
            true => record::write(&path, part.file(), label),
            false => Ok(()),
        };
        match done.and_then(|()| record()) {
            Ok(()) => part.commit(),
            Err(error) => {
                part.discard();
                Err(if self.keeps() { with_hint(error, &path) } else { error })
            }
        }
    }
}

/// Says what helps if the file system of `path` is full. The error then has one cause
/// only, so that an object that is made for another one says so once.
fn with_hint(error: anyhow::Error, path: &Path) -> anyhow::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    };
    match error.chain().any(is_full) {
        true => anyhow!(
            "write {}: {error:#}; `chrootvm cache prune` frees space, and XDG_CACHE_HOME names \
             another place",
            path.display()
        ),
        false => error,
    }
}

fn has_size(file: &File, size: u64) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() == size)
}
