//! Settings of registries: what the user and the system say about them.
//!
//! | Module | Contents |
//! |---|---|
//! | [`certificates`] | authorities that may vouch for a registry |
//! | [`environment`] | variables and directories from which settings come |
//! | [`login`] | names, passwords and tokens |
//! | [`options`] | what a user says about registries |
//! | [`proxy`] | proxies, and which hosts are reached without one |

pub mod certificates;
pub mod environment;
pub mod login;
pub mod options;
pub mod proxy;
