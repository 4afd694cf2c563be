//! The boot: the order of its steps, the steps that only a boot needs, and the end of the
//! machine after a fatal error.
//!
//! The last room of the table in `lib.rs`: it may import every other room, and only the
//! binary imports it.

pub mod end;
pub mod modules;
pub mod mount;
pub mod network;
pub mod orders;
pub mod steps;
pub mod tables;
