//! Developers' tasks: build, pack, check, test, measure, fuzz, release, demo.

pub mod bench;
pub mod check;
pub mod containerfiles;
pub mod day;
pub mod demo;
pub mod dist;
pub mod distributions;
pub mod documents;
pub mod fleets;
pub mod fuzz;
pub mod guest;
pub mod guest_binary;
pub mod inits;
pub mod kernels;
pub mod metadata;
mod outcomes;
pub mod packages;
pub mod programs;
mod random;
pub mod registry;
mod route;
pub mod soak;
pub mod source_date;
pub mod step_program;
pub mod test;
pub mod testbed;
pub mod workspace;
