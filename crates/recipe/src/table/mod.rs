//! TOML files as tables of known keys: which keys there are, what their values look like, and
//! which keys go together.
//!
//! One table drives both the reader ([`read`]) and the JSON schema, so that the two cannot
//! differ. Interface: TOML 1.0 (toml.io).
//!
//! Invariant: [`read`] returns only values that have the form of their key and keep its rule.

mod fields;
mod forms;
mod lines;
mod quote;
mod reader;
mod rules;
mod together;

pub(crate) use fields::{Fields, Item};
pub(crate) use forms::{Form, Key, Need, Table};
pub(crate) use lines::{Fault, Lines};
pub(crate) use quote::{list, nearest, quote};
pub(crate) use reader::read;
pub(crate) use rules::{Pattern, Rule, rule};
