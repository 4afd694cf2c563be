//! buildfs' build.toml → recipe.
//!
//! buildfs starts a container, runs the commands in it, makes a file system, copies what
//! `export` lists into it, and puts the overlays there. The recipe has the same order: mounted
//! overlays, commands, what `export` makes, the other overlays.

mod commands;
mod container;
mod export;
mod filesystem;
mod overlays;

use super::source::{Document, Table};
use crate::model::{Mistake, Recipe};

/// Converts a file.
///
/// # Errors
/// The text is no TOML, or a value has the wrong form.
pub(super) fn recipe(document: &Document<'_>) -> Result<Recipe, Mistake> {
    let parsed = document.parse()?;
    let mut root = Table::root(document, &parsed);
    let mut output = filesystem::convert(root.require("filesystem")?.table()?)?;
    let mut recipe = Recipe::default();
    container::convert(root.require("container")?.table()?, &mut recipe)?;
    let overlays = overlays::convert(root.take("overlays"))?;
    recipe.steps.extend(overlays.mounted);
    recipe.steps.extend(commands::convert(root.take("commands"))?);
    let exported = export::convert(document, root.take_table("export")?)?;
    recipe.steps.extend(exported.steps);
    recipe.steps.extend(overlays.steps);
    output.include = exported.include;
    if !output.include.is_empty() {
        export::include_also(&mut output.include, overlays.paths);
    }
    recipe.outputs = vec![output];
    root.finish();
    Ok(recipe)
}
