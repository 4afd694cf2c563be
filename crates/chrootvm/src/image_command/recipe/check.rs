//! Checking a recipe and everything that it names, without a machine.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use recipe::Init;

use super::kept::key::Key;
use super::package::lockfile::{LockFile, Policy};
use super::package::{Package, plan};
use super::packed::{self, RecipeFile};
use super::results::outputs;

/// Checks a recipe and everything that it names, but no base.
///
/// # Errors
/// [`WrongRecipe`](super::package::WrongRecipe); a file that is missing.
pub(in crate::image_command) fn check(file: &Path) -> Result<String> {
    let recipe = RecipeFile::open(file)?;
    let Checked { chain, steps } = checked(recipe.package()?)?;
    let outputs = chain.last().map_or(0, |package| package.recipe.outputs.len());
    Ok(format!("{}: {steps} steps, {outputs} outputs\n", file.display()))
}

/// Writes the recipe `file` and the files that it names to the package `output`.
///
/// # Errors
/// Those of [`check`]; a file that no package can hold; the package cannot be written.
pub(in crate::image_command) fn pack(file: &Path, output: &Path) -> Result<()> {
    packed::pack::check_names(file, output)?;
    packed::pack::write(&checked(Package::open(file)?)?.chain, output)
}

/// A recipe that was checked.
struct Checked {
    /// The recipe and those that it builds on, the lowest first.
    chain: Vec<Arc<Package>>,
    /// Number of steps.
    steps: usize,
}

/// Checks a recipe, everything that it names, and its lock file.
fn checked(package: Package) -> Result<Checked> {
    LockFile::open(&package, Policy::Usual)?;
    let chain = plan::chain(package)?;
    let steps = plan::plan(&chain, Some(Key::first(&[])), &plan::Surroundings::default())?.len();
    let package = chain.last().context("there is one recipe at least")?;
    if let Some(Init::File(path)) = &package.recipe.init {
        let found = package.own(path).context("init.file")?;
        ensure!(found.is_file(), "init.file: {} is no file", path.display());
    }
    if !package.recipe.outputs.is_empty() {
        outputs::plan(package, None)?;
    }
    Ok(Checked { chain, steps })
}
