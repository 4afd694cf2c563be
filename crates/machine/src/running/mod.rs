//! A machine that runs: watching over it, ending it, and how others find it.

pub mod broker;
pub mod halt;
pub mod outcome;
pub mod registry;
pub mod run;
pub mod time_limit;
pub mod timing;
pub mod watch;
