//! Helpers that all tests of machines share.
//!
//! A test takes a [`Bed`], makes a machine or a command from it, and compares its
//! output. The room `make` builds the inputs of a machine: initrds, disks, images, and
//! directories of another user.

pub(crate) mod command_run;
pub(crate) mod finished;
pub(crate) mod make;
pub(crate) mod processes;
pub(crate) mod programs;
pub(crate) mod progress;
pub(crate) mod terminal;
pub(crate) mod tests;
pub(crate) mod trial;

mod bed;
mod machine;
mod running;

use anyhow::Result;

pub(crate) use bed::{Bed, Processors, new_directory, workspace};
pub(crate) use machine::{Machine, hotplug, read_only_disk};
pub(crate) use running::RunningMachine;

/// Body of a test.
pub(crate) type CaseBody = fn(&Bed) -> Result<()>;

/// Name and body of a test.
pub(crate) type Case = (&'static str, CaseBody);
