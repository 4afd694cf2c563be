//! What the guest is told on its kernel command line.
//!
//! Imports only the values of [`crate::plan`].

pub mod clock;
pub mod cmdline;
pub mod name_server;
