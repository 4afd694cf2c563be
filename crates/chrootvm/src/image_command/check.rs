//! `chrootvm image check`: reads a recipe and everything that it names, and runs nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;

use super::recipe;

/// Check a recipe, and that every file that it names exists
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm image check recipe.toml\n  \
                   chrootvm image check app.recipe.tar.gz",
    after_help = "Exit status: 2 if the recipe is wrong."
)]
pub(super) struct CheckRecipe {
    /// The recipe, packed or not
    recipe: PathBuf,
}

impl CheckRecipe {
    /// Prints one line about a recipe that is right.
    pub(super) fn run(self) -> Result<ExitCode> {
        recipe::exit_status(recipe::check(&self.recipe).and_then(tell::result))
    }
}
