//! Parsers of the values that texts name: sizes, percentages, durations, modes.
//!
//! The command line has the same values; an error says how to write one.

mod durations;
mod modes;
mod sizes;

pub use durations::{parse_backoff, parse_duration, show_backoff, show_duration};
pub use modes::{parse_mode, show_mode};
pub use sizes::{parse_memory, parse_percent, parse_size, show_size};
