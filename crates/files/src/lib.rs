//! Files of the host, and messages about them, for all other crates.
//!
//! System calls go through the crate `nix`.
//!
//! | Module | Contents |
//! |---|---|
//! | [`lookup`] | a trait: look-ups of files in a root file system |
//! | [`root_dir`] | a directory as a root file system; no look-up leaves it |
//! | [`output`] | output files that appear whole or not at all |
//! | [`memory`] | files in memory, without a name |
//! | [`named`] | a trait: values that users choose by a word |
//! | [`private_dir`] | directories of caches that only this user writes to |
//! | [`kept`] | files in such a directory: listed, removed, cleaned by last use |
//! | [`notes`] | warnings, grouped by kind |
//! | [`sparse`] | files with holes |
//! | [`time`] | times as RFC 3339 has them |
//! | [`tell`] | messages for people, results for programs, names as printable text |

pub mod kept;
pub mod lookup;
pub mod memory;
pub mod named;
pub mod notes;
pub mod output;
pub mod private_dir;
pub mod root_dir;
pub mod sparse;
pub mod tell;
pub mod time;
