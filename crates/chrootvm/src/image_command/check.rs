//! `chrootvm image check`: reads a recipe and everything that it names, or a Containerfile, and runs
//! nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;

use super::recipe::{self, containerfile};

/// Check a recipe and every file that it names, or a Containerfile
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm image check recipe.toml\n  \
                   chrootvm image check app.recipe.tar.gz\n  \
                   chrootvm image check Containerfile",
    after_help = "Exit status: 2 if the recipe or the Containerfile is wrong."
)]
pub(super) struct CheckRecipe {
    /// The recipe, packed or not; or a file called Containerfile, Dockerfile, Containerfile.*,
    /// *.Containerfile (or so with Dockerfile)
    recipe: PathBuf,
}

impl CheckRecipe {
    /// Prints one line about a recipe that is right.
    pub(super) fn run(self) -> Result<ExitCode> {
        let checked = match containerfile::is_name_of_containerfile(&self.recipe) {
            true => containerfile::check(&self.recipe),
            false => recipe::check(&self.recipe),
        };
        recipe::exit_status(checked.and_then(tell::result))
    }
}
