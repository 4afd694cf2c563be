//! PID 1 of an initramfs that boots a directory over virtiofs.
//!
//! The order of the boot is [`boot`]; what it is told comes from
//! [`cmdline::Config`], what it makes is listed in [`tables`]. Everything but
//! [`rt`] is safe Rust, and everything that decides is free of I/O, so that it
//! is tested on a host.

#![no_std]
// PID 1 does not panic on input.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod cmdline;
pub mod disk;
pub mod report;
pub mod root;
pub mod rt;
pub mod run;
pub mod sys;
pub mod transport;
