//! `chrootvm image build RECIPE`: an image from a file of steps.
//!
//! | Module | Content |
//! |---|---|
//! | `build` | a build from the command line to the outputs |
//! | `options` | the options that only recipes have |
//! | `package` | a recipe, the files that belong to it, its lock file, and the list of its steps |
//! | `kept` | keys, and what is kept between builds |
//! | `tree` | the base, and edits of the tree |
//! | `run` | runs the list of steps, and commands in a machine |
//! | `results` | the files that are made |
//! | `explain`, `twice` | why a step runs; whether two builds give the same bytes |

mod build;
mod explain;
mod kept;
mod options;
mod package;
mod results;
mod run;
mod tree;
mod twice;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use self::kept::key::Key;
use self::package::{Package, WrongRecipe, plan};
use self::results::outputs;
use self::run::failure::{EXIT_RECIPE, Failed};

pub(super) use build::BuildRecipe;
pub use kept::store::kept_steps;
pub(super) use options::RecipeOptions;

/// Whether `source` names a recipe: a file whose name ends in `.toml`.
pub(super) fn is_recipe(source: &Path) -> bool {
    source.extension().is_some_and(|ending| ending == "toml")
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

/// Checks a recipe and everything that it names, but no base.
///
/// # Errors
/// [`WrongRecipe`]; a file that is missing.
pub(super) fn check(file: &Path) -> Result<String> {
    let chain = plan::chain(Package::open(file)?)?;
    let steps = plan::plan(&chain, Some(Key::first(&[])), &plan::Surroundings::default())?;
    let package = chain.last().context("there is one recipe at least")?;
    if !package.recipe.outputs.is_empty() {
        outputs::plan(package, None)?;
    }
    let outputs = package.recipe.outputs.len();
    Ok(format!("{}: {} steps, {outputs} outputs\n", file.display(), steps.len()))
}
