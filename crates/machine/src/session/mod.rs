//! The host's side of a session: one command in the guest, with its streams, its terminal
//! and its exit status. `/init` is the other side.
//!
//! Imports [`crate::plan`] and [`crate::process`].

pub mod channels;
pub mod console;
pub mod console_relay;
pub mod control;
pub mod escape;
pub mod foreground;
pub mod input;
pub mod log_files;
pub mod panic_page;
pub mod passed_on;
pub mod shortage;
pub mod streams;
pub mod terminal;
pub mod workload;
