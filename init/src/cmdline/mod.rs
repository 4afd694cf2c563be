//! The kernel command line, from bytes to [`Config`].
//!
//! Everything here is pure: it reads bytes and returns values. Imports no other room.

pub mod config;
pub mod device;
pub mod extra_mount;
pub mod fail;
pub mod module_parameters;
pub mod mount_options;
pub mod root;
#[cfg(test)]
mod tests;

pub use config::Config;
