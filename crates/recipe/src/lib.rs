//! recipe.toml: how an image is made, as text and as values.
//!
//! This crate does no input or output: callers hand it text. Every key of a recipe must be
//! known; a mistake has a line and a column, and says how to write it.
//!
//! | Module | Contents |
//! |---|---|
//! | `model` | the values: [`Recipe`], its [`Step`]s, [`Output`]s and so on |
//! | [`values`] | sizes, percentages and durations in texts |

mod model;
pub mod values;

pub use model::*;
