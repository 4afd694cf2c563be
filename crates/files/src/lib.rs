//! Files of the host, for all other crates.
//!
//! | Module | What |
//! |---|---|
//! | [`lookup`] | the trait of a root file system that can be looked into |
//! | [`root_dir`] | a directory as such a root; no look-up leaves it |
//! | [`output`] | output files that appear whole or not at all |
//! | [`memory`] | files in memory that have no name |
//! | [`named`] | values that are chosen by a word |
//! | [`notes`] | warnings, gathered by kind |
//! | [`tell`] | messages for people, and names as printable text |

pub mod lookup;
pub mod memory;
pub mod named;
pub mod notes;
pub mod output;
pub mod root_dir;
pub mod tell;
