//! `chrootvm image pack`: a recipe and its files as one archive.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use super::recipe;
use super::recipe::containerfile::is_name_of_containerfile;

/// Pack a recipe and every file that it names into one archive
///
/// Every file is checked first. Directories and images of the host that the recipe starts with, its
/// volumes and the files of its secrets are not packed; a warning names them.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm image pack recipe.toml -o app.recipe.tar.gz",
    after_help = "Equal files give equal bytes. Exit status: 2 if the recipe is wrong."
)]
pub(super) struct PackRecipe {
    /// The recipe
    recipe: PathBuf,
    /// File to write; its name ends in .recipe.tar.gz or .recipe.tar
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl PackRecipe {
    /// Writes the package.
    pub(super) fn run(self) -> Result<ExitCode> {
        ensure!(
            !is_name_of_containerfile(&self.recipe),
            "{}: a Containerfile is not packed: it needs its whole context",
            self.recipe.display()
        );
        recipe::exit_status(recipe::pack(&self.recipe, &self.output))
    }
}
