//! Reading a package, and writing it as a directory.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;
use image::format::Format;
use image::progress::Progress;
use image::source::tar::NO_END;
use image::source::{self, ReadOptions};
use image::tree::Tree;
use image::write::dir;

use super::super::package::WrongRecipe;
use super::rules::{self, Owner, SIZE_MAX};
use crate::logger::warn_all;

/// Unpacks the package `archive` into `directory`, which must not exist, or must be empty.
///
/// # Errors
/// Those of [`read`]; the directory cannot be written. Then nothing is left of it.
pub(in crate::image_command) fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    let tree = read(archive)?;
    let mut notes = Notes::default();
    dir::write(&tree, directory, &mut notes, &Progress::hidden())?;
    warn_all(notes.lines());
    Ok(())
}

/// Reads a package. Its files become those of this user, with permissions as [`rules::level`] has
/// them.
///
/// # Errors
/// The file is no tar archive or damaged; [`WrongRecipe`] if it holds what no package does.
pub(super) fn read(archive: &Path) -> Result<Tree> {
    let shown = archive.display();
    let metadata = archive.metadata().with_context(|| format!("open {shown}"))?;
    ensure!(!metadata.is_dir(), "{shown} is a directory: give the path of the recipe in it");
    let mut notes = Notes::default();
    let options = ReadOptions { max_size: SIZE_MAX, ..ReadOptions::default() };
    let source = source::open(archive, &options, &mut notes)?;
    let Format::Tar(_) = source.format else {
        bail!("{shown} is {}, and a package is a tar archive", source.format);
    };
    // A directory with fewer files would be built without a word.
    let cut = notes.lines().find(|line| line.starts_with(NO_END));
    if let Some(cut) = cut {
        bail!(WrongRecipe(format!("{shown}: {cut}")));
    }
    let mut tree = source.tree;
    rules::check(&tree).map_err(|error| WrongRecipe(format!("{shown}: {error:#}")))?;
    warn_all(notes.lines());
    rules::level(&mut tree, Owner::Own)?;
    Ok(tree)
}
