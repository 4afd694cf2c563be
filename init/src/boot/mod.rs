//! The boot: the order of its steps, the steps that only a boot needs, and the end of the
//! machine after a fatal error.
//!
//! The top room: it imports all others, and only the binary imports it.

pub mod end;
pub mod modules;
pub mod mount;
pub mod network;
pub mod steps;
pub mod tables;
