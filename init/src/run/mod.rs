//! What runs.

pub mod command;
pub mod interpreter;
pub mod orders;
pub mod payload;
pub mod program;
pub mod session;
pub mod supervise;
