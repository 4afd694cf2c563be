//! recipe.toml: how an image is made, as text and as values.
//!
//! This crate does no input or output: callers hand it text. Every key of a recipe must be
//! known; a mistake has a line and a column, and says how to write it.
//!
//! | Module | Contents |
//! |---|---|
//! | `model` | the values: [`Recipe`], its [`Step`]s, [`Output`]s and so on |
//! | [`parse()`] | text → [`Recipe`] |
//! | `to_toml` | [`Recipe::to_toml`]: [`Recipe`] → text |
//! | `canonical` | [`Step::canonical`]: bytes for the keys of caches |
//! | `references` | [`Recipe::references`]: the files that a recipe names |
//! | [`lock`] | recipe.lock: text ↔ [`lock::Lock`] |
//! | [`schema()`] | JSON schema of a recipe |
//! | [`containerfile`] | Containerfiles: text → what their instructions do |
//! | [`convert`] | files of buildfs and fledge → [`Recipe`] |
//! | [`values`] | sizes, percentages, durations and modes in texts |
//! | `keys`, `table` | the grammar as tables, and what reads a text by such a table |
//! | `writer` | writes TOML |

mod canonical;
pub mod containerfile;
pub mod convert;
mod keys;
pub mod lock;
mod model;
mod parse;
mod references;
mod schema;
mod table;
mod to_toml;
pub mod values;
mod writer;

pub use model::*;
pub use parse::parse;
pub use references::{Reference, Target, is_pattern};
pub use schema::schema;
