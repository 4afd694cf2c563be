//! The tree that a recipe builds: its base, and the edits that need no machine.

pub(super) mod base;
mod copies;
pub(super) mod edits;
pub(super) mod fetch;
