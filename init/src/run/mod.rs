//! The program that the machine runs: choosing it, checking it, and running it as the
//! payload, in a session of the host, or supervised.
//!
//! Imports `root`, `transport`, `cmdline`, `sys` and `rt`. The order in which the boot calls
//! this room is in `boot`.

pub mod console;
pub mod host;
pub mod interpreter;
pub mod orders;
pub mod payload;
pub mod program;
pub mod session;
pub mod workload;
