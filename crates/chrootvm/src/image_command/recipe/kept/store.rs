//! What builds keep for later ones: layers of steps, trees of bases, outputs, caches of steps, and
//! what is known of inputs.
//!
//! Each is a file in one directory of the user's cache, named by its key. A layer and a base are
//! EROFS images without compression; a layer has the form of overlayfs (Linux doc:
//! filesystems/overlayfs), so that a machine can use it as it is.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use archive::compress::{Compression, Method};
use files::kept::{KeptFiles, Rules, note_use, size_on_disk};
use files::notes::Notes;
use image::format::Format;
use image::progress::Progress;
use image::tree::Tree;
use image::write::disk::{self, DiskOptions};
use machine::host;

use super::super::kept::key::Key;

/// Rules of the directory.
const RULES: Rules = Rules {
    directory: "steps",
    unfinished: ".virtinitrd-",
    size: size_on_disk,
    most: 2000,
    most_bytes: 24 << 30,
};

/// Identity of images that only this program reads. With an identity of its own, every byte of
/// the image would have to be hashed.
const UUID: [u8; 16] = *b"virtinitrd-layer";

/// Kind of a kept file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Kind {
    /// Tree of a base.
    Base,
    /// Layer of a step.
    Layer,
    /// Contents of a directory that steps share between builds.
    Cache,
    /// A file that a recipe makes.
    Output,
    /// Digest of an input that has not changed since.
    Input,
    /// That a file is an output, which nobody has changed since. It has no contents.
    Written,
    /// What the last build of a recipe was made of.
    Record,
}

impl Kind {
    /// Ending of the name.
    fn ending(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Layer => "layer",
            Self::Cache => "cache",
            Self::Output => "output",
            Self::Input => "input",
            Self::Written => "written",
            Self::Record => "record",
        }
    }
}

/// The directory; without one, nothing is kept.
#[derive(Clone, Debug)]
pub(in crate::image_command) struct Store {
    files: Option<KeptFiles>,
}

impl Store {
    /// The store of this user.
    pub(in crate::image_command::recipe) fn of_user() -> Self {
        let files = host::user_cache().and_then(|home| KeptFiles::below(&home, &RULES));
        if files.is_none() {
            log::warn!("steps are not kept: set HOME to your own directory, or XDG_CACHE_HOME");
        }
        Self { files }
    }

    /// A store that keeps nothing.
    pub(in crate::image_command::recipe) fn unkept() -> Self {
        Self { files: None }
    }

    /// A new file without a name, on the disk of the cache: it may be large. If that cannot be
    /// written, it is where temporary files usually are. It goes when it is closed.
    ///
    /// # Errors
    /// Errors of open(2).
    pub(in crate::image_command::recipe) fn temporary(&self) -> Result<File> {
        let of_cache = self.files.as_ref().map(|files| tempfile::tempfile_in(files.dir()));
        if let Some(Ok(file)) = of_cache {
            return Ok(file);
        }
        let dir = std::env::temp_dir();
        let making = || format!("make a temporary file in {}", dir.display());
        tempfile::tempfile_in(&dir).with_context(making)
    }

    /// Opens the kept file; `None` if there is none that can be read.
    pub(in crate::image_command::recipe) fn open(&self, kind: Kind, key: &Key) -> Option<File> {
        let name = name(kind, key);
        match self.files.as_ref()?.open(&name) {
            // A power cut may leave a file without its contents.
            Ok(file) => {
                file.filter(|file| kind == Kind::Written || has_bytes(file)).inspect(note_use)
            }
            Err(error) => {
                log::warn!("kept {name} is not used: {error:#}");
                None
            }
        }
    }

    /// Reads a small kept file.
    pub(in crate::image_command::recipe) fn read(
        &self,
        kind: Kind,
        key: &Key,
        most: u64,
    ) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open(kind, key)?;
        io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps a file with the contents that `write` writes, and opens it. If it cannot be kept, it
    /// is a file without a name.
    ///
    /// # Errors
    /// Those of `write`.
    pub(in crate::image_command::recipe) fn keep(
        &self,
        kind: Kind,
        key: &Key,
        write: &mut dyn FnMut(&File) -> Result<()>,
    ) -> Result<File> {
        if let Some(files) = &self.files {
            let mut failed = None;
            let kept = files.keep(&name(kind, key), |file| {
                write(file).map_err(|error| {
                    let told = io::Error::other(format!("{error:#}"));
                    failed = Some(error);
                    told
                })
            });
            match (failed, kept) {
                (Some(error), _) => return Err(error),
                (None, Err(error)) => log::warn!("{error:#}"),
                (None, Ok(())) => {
                    if let Some(file) = self.open(kind, key) {
                        return Ok(file);
                    }
                }
            }
        }
        let file = self.temporary()?;
        write(&file)?;
        Ok(file)
    }

    /// Keeps a small file; failures are only logged, because nothing depends on it.
    pub(in crate::image_command::recipe) fn note(&self, kind: Kind, key: &Key, bytes: &[u8]) {
        let Some(files) = &self.files else { return };
        let kept = files.keep(&name(kind, key), |file| io::Write::write_all(file, bytes));
        if let Err(error) = kept {
            log::debug!("{error:#}");
        }
    }
}

/// The directory of steps below the cache directory `home`, for a list.
#[must_use]
pub fn kept_steps(home: &Path) -> Option<KeptFiles> {
    KeptFiles::below(home, &RULES)
}

/// Whether a file is not empty.
fn has_bytes(file: &File) -> bool {
    file.metadata().is_ok_and(|found| found.len() > 0)
}

fn name(kind: Kind, key: &Key) -> String {
    format!("{key}.{}", kind.ending())
}

/// Writes a tree as an image for machines of builds.
///
/// # Errors
/// A tree that EROFS cannot express; errors of reading and writing.
pub(in crate::image_command::recipe) fn write_image(tree: &Tree, file: &File) -> Result<()> {
    let options = DiskOptions {
        uuid: Some(UUID),
        compress: Some(Method { compression: Compression::None, level: None }),
        threads: 1,
        ..DiskOptions::default()
    };
    let mut notes = Notes::default();
    disk::write(tree, Format::Erofs, &options, file, &mut notes, &Progress::hidden())
}
