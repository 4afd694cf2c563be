//! Settings that the guest gets on its kernel command line, such as its clock and its name
//! server.
//!
//! Imports only the values of [`crate::plan`].

pub mod clock;
pub mod cmdline;
pub mod name_server;
