//! Recipes as texts: what is read, what is refused where, and what is written again.

mod bad;
mod good;
mod references;
mod round_trip;
mod schema;
mod strategies;

use virtinitrd_recipe::{Position, Recipe};

/// `recipe` without the positions of its steps.
fn without_positions(mut recipe: Recipe) -> Recipe {
    recipe.steps.iter_mut().for_each(|step| step.position = Position::default());
    recipe
}
