//! `chrootvm image build RECIPE`: an image from a file of steps.
//!
//! | Module | Content |
//! |---|---|
//! | `build` | a build from the command line to the outputs |
//! | `options` | the options that only recipes have |
//! | [`containerfile`] | another front: Containerfiles |
//! | `package` | a recipe, the files that belong to it, its lock file, and the list of its steps |
//! | `kept` | keys, and what is kept between builds |
//! | `tree` | the base, and edits of the tree |
//! | `run` | runs the list of steps, and commands in a machine |
//! | `results` | the files that are made |
//! | `packed` | a recipe and its files in one archive |
//! | `check` | checks a recipe without building it |
//! | `explain`, `twice` | why a step runs; whether two builds give the same bytes |

mod build;
mod check;
pub(super) mod containerfile;
mod explain;
mod kept;
mod options;
mod package;
mod packed;
mod results;
mod run;
mod tree;
mod twice;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use self::package::WrongRecipe;
use self::run::failure::{EXIT_RECIPE, Failed};

pub(super) use build::{BuildRecipe, newest};
pub(super) use check::{check, pack};
pub(super) use kept::key::Key;
pub use kept::store::kept_steps;
pub(super) use options::RecipeOptions;
pub use packed::guarded;
pub(super) use packed::unpack::unpack;
pub(super) use results::kept_output::{KeptOutput, may_be_kept};

/// Whether `source` names a recipe: a file whose name ends in `.toml`, or the archive of a package.
pub(super) fn is_recipe(source: &Path) -> bool {
    source.extension().is_some_and(|ending| ending == "toml") || packed::is_package(source)
}

/// Turns the failures that have an exit status of their own into one.
pub(super) fn exit_status(result: Result<()>) -> Result<ExitCode> {
    let Err(error) = result else { return Ok(ExitCode::SUCCESS) };
    let failed = error.downcast_ref().map(Failed::exit_status);
    let wrong = error.downcast_ref::<WrongRecipe>().map(|_| EXIT_RECIPE);
    match failed.or(wrong) {
        Some(status) => {
            log::error!("{error:#}");
            Ok(ExitCode::from(status))
        }
        None => Err(error),
    }
}

/// The error about a mistake in a recipe, or in what should become one.
pub(super) fn wrong(message: String) -> anyhow::Error {
    WrongRecipe(message).into()
}
