//! Packages: a recipe and the files that it names, in one tar archive.
//!
//! | Module | Content |
//! |---|---|
//! | `pack`, `collect` | writes a package |
//! | `unpack` | reads a package, and writes it as a directory |
//! | `rules` | what a package may hold |
//! | [`guarded`] | the directory into which a package is unpacked for a build |
//!
//! A build knows a package by the ending of its name. The first member of the archive is
//! `recipe.toml`; compression is recognised by its bytes.

mod collect;
pub mod guarded;
pub(super) mod pack;
pub(super) mod rules;
pub(super) mod unpack;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use archive::compress::Compression;
use files::notes::Notes;
use image::progress::Progress;
use image::write::dir;

use self::guarded::GuardedDir;
use super::package::Package;
use crate::logger::warn_all;

/// Endings of the names of packages, and their compression.
const ENDINGS: [(&str, Compression); 2] =
    [(".recipe.tar.gz", Compression::Gzip), (".recipe.tar", Compression::None)];

/// Name of the directory of a package that was unpacked for a build.
const UNPACKED: &str = "package";

/// Whether `path` has the name of a package.
pub(super) fn is_package(path: &Path) -> bool {
    ending(path).is_some()
}

fn ending(path: &Path) -> Option<Compression> {
    let name = path.as_os_str().as_bytes();
    let found = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending.as_bytes()));
    found.map(|(_, compression)| *compression)
}

/// The compression that the name of a package means.
fn compression(path: &Path) -> Compression {
    ending(path).unwrap_or_default()
}

/// All endings, as a list in a sentence.
fn endings() -> String {
    ENDINGS.map(|(ending, _)| ending).join(" or ")
}

/// A recipe that a user named: the file itself, or the one of a package.
#[derive(Debug)]
pub(super) struct RecipeFile<'a> {
    given: &'a Path,
    /// Where a package is unpacked; it is gone when this value is.
    unpacked: Option<(GuardedDir, PathBuf)>,
}

impl<'a> RecipeFile<'a> {
    /// Finds the recipe; a package is unpacked.
    ///
    /// # Errors
    /// A package that cannot be read or unpacked.
    pub(super) fn open(given: &'a Path) -> Result<Self> {
        if !is_package(given) {
            return Ok(Self { given, unpacked: None });
        }
        let tree = unpack::read(given)?;
        let guarded = GuardedDir::new()?;
        let path = guarded.path()?.join(UNPACKED);
        let mut notes = Notes::default();
        dir::write(&tree, &path, &mut notes, &Progress::hidden())?;
        warn_all(notes.lines());
        Ok(Self { given, unpacked: Some((guarded, path)) })
    }

    /// Reads the recipe.
    ///
    /// # Errors
    /// Those of [`Package::open`].
    pub(super) fn package(&self) -> Result<Package> {
        match &self.unpacked {
            None => Package::open(self.given),
            Some((_, directory)) => Package::of_archive(self.given, directory),
        }
    }
}
