//! Settings of registries: what the user and the system say about them.
//!
//! | Module | Contents |
//! |---|---|
//! | [`options`] | what a user says about registries |
//! | [`environment`] | variables and directories from which the rest comes |
//! | [`login`] | names, passwords and tokens |
//! | [`credentials`], [`auth_file`], [`helper`] | the login for a repository, from files and programs |
//! | [`registries_conf`], [`mirrors`] | the places of an image |
//! | [`certificates`] | authorities that may vouch for a registry |
//! | [`proxy`] | proxies, and which hosts are reached without one |

pub mod auth_file;
pub mod certificates;
pub mod credentials;
pub mod environment;
pub mod helper;
pub mod login;
pub mod mirrors;
pub mod options;
pub mod proxy;
pub mod registries_conf;

use std::io::ErrorKind;

/// Whether an error says that a file is missing, or a directory above it.
fn is_missing(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::NotFound | ErrorKind::NotADirectory)
}
