//! Writing a package: a recipe, and every file of its directory that it names.
//!
//! Equal files give equal bytes: members are sorted, have no times, and belong to root.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use archive::compress::{Encoder, Method};
use files::notes::Notes;
use files::output::Output;
use image::tree::Tree;
use image::write::tar;
use recipe::Target;

use super::super::package::Package;
use super::collect::Collector;
use super::rules::{self, Owner, RECIPE};
use super::{compression, endings, is_package};
use crate::logger::warn_all;

/// Size of the buffer before the file, in bytes.
const BUFFER: usize = 1 << 18;

/// Writes the package of the recipe that `chain` ends with to `output`.
///
/// # Errors
/// A file cannot be read or written, or no package can hold it.
pub(in super::super) fn write(chain: &[Arc<Package>], output: &Path) -> Result<()> {
    let mut tree = tree(chain, output)?;
    rules::check(&tree)?;
    rules::level(&mut tree, Owner::Root)?;
    let method = Method { compression: compression(output), level: None };
    let writing = || format!("write {}", output.display());
    let file = Output::create(output)?;
    let buffered = BufWriter::with_capacity(BUFFER, &file.file);
    let mut encoder = Encoder::new(buffered, method, 0)?;
    let mut notes = Notes::default();
    let written = tar::write_beginning_with(RECIPE.as_bytes(), &tree, &mut encoder, &mut notes);
    written.with_context(writing)?;
    encoder.finish().and_then(|mut buffered| buffered.flush()).with_context(writing)?;
    file.commit()?;
    warn_all(notes.lines());
    warn_all(chain.iter().flat_map(|package| left_behind(package)));
    log::info!("{}: {} files, {} bytes", output.display(), files(&tree), tree.size());
    Ok(())
}

/// Checks the names of the two files of `image pack`.
///
/// # Errors
/// The recipe is a package already; a build would not know `output` for a package.
pub(in super::super) fn check_names(recipe: &Path, output: &Path) -> Result<()> {
    ensure!(!is_package(recipe), "{} is a package already", recipe.display());
    ensure!(
        is_package(output),
        "-o {}: the name of a package ends in {}",
        output.display(),
        endings()
    );
    Ok(())
}

/// The tree of the package.
fn tree(chain: &[Arc<Package>], output: &Path) -> Result<Tree> {
    let top = chain.last().context("there is one recipe at least")?;
    let mut collector = Collector::new(top, output)?;
    for package in chain {
        for reference in package.recipe.references() {
            let naming = || match reference.position {
                Some(position) => format!("{}: {}", package.place(position), reference.key),
                None => format!("{}: {}", package.file.display(), reference.key),
            };
            let paths = match reference.target {
                Target::Host => Vec::new(),
                Target::Pattern => {
                    let pattern = reference.path.to_str().with_context(naming)?;
                    package.matches(pattern).with_context(naming)?
                }
                _ => vec![reference.path.to_path_buf()],
            };
            for path in paths {
                collector.add(package, &path).with_context(naming)?;
            }
        }
    }
    Ok(collector.finish())
}

/// What the package will not have, one line each.
fn left_behind(package: &Package) -> Vec<String> {
    let references = package.recipe.references().into_iter();
    let of_host = references.filter(|reference| reference.target == Target::Host);
    let line = |reference: recipe::Reference<'_>| {
        let (key, path) = (reference.key, reference.path);
        let found = match path.is_absolute() {
            true => "a build needs it at the same path",
            false => "a build of the package looks for it from the directory in which it runs",
        };
        format!(
            "{}: {key}: {} is not in the package: {found}",
            package.file.display(),
            path.display()
        )
    };
    of_host.map(line).collect()
}

/// Number of the files of a tree, without directories.
fn files(tree: &Tree) -> usize {
    tree.nodes().filter(|node| !matches!(node.kind, image::tree::Kind::Directory(_))).count()
}
