//! `chrootvm image unpack`: the files of a packed recipe as a directory.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::recipe;

/// Unpack what `chrootvm image pack` has packed
///
/// The directory appears whole or not at all. Its files belong to you.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm image unpack app.recipe.tar.gz app",
    after_help = "Exit status: 2 if the archive is no package."
)]
pub(super) struct UnpackRecipe {
    /// The archive
    package: PathBuf,
    /// Directory to make, which must not exist or must be empty
    directory: PathBuf,
}

impl UnpackRecipe {
    /// Writes the directory.
    pub(super) fn run(self) -> Result<ExitCode> {
        recipe::exit_status(recipe::unpack(&self.package, &self.directory))
    }
}
