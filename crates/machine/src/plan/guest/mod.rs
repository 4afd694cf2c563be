//! What the guest is told on its kernel command line.
//!
//! Imports the values of [`super`] only.

pub mod clock;
pub mod cmdline;
pub mod name_server;
