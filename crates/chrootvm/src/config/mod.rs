//! Configuration files: options that a user would otherwise type for every run.
//!
//! A file is TOML 1.0. Its settings become words of the command line, and clap parses them
//! together with the words that the user has typed. So a setting means exactly what its
//! option means, and has its limits. A setting yields to words that exclude it.
//!
//! | Module | Content |
//! |---|---|
//! | `keys` | table of the keys, their types, and the options that silence them; pure |
//! | `parse` | text of a file → settings and sections; pure |
//! | `merge` | settings of all files and options of the line → words; pure |
//! | `trust` | which files belong to somebody whom the user trusts; pure |
//! | `read` | finding and reading the files |

pub mod keys;
pub mod merge;
pub mod parse;
pub mod read;
mod trust;
