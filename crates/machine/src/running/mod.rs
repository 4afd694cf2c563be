//! Running machines: starting one, watching it until it ends, serving further commands in
//! it, and finding it by its name.
//!
//! Imports all rooms but [`crate::doctor`].

pub mod boot_line;
pub mod broker;
pub mod detached;
mod machine;
pub mod outcome;
pub mod published_ports;
pub mod readiness;
pub mod registry;
pub mod run;
pub mod script;
pub mod settings;
pub mod state;
pub mod time_limit;
pub mod timing;
pub mod warm;
pub mod watch;
pub mod watched_daemons;
pub mod watched_init;
