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

pub mod block;
pub mod boot;
pub mod children;
pub mod cmdline;
pub mod command;
pub mod device;
pub mod error;
pub mod etc;
pub mod extra_mount;
pub mod fail;
pub mod file;
pub mod initramfs;
pub mod kernel_log;
pub mod log;
pub mod module_parameters;
pub mod modules;
pub mod mount;
pub mod mount_options;
pub mod network;
pub mod orders;
pub mod overlay;
pub mod partitions;
pub mod payload;
pub mod plan;
pub mod ports;
pub mod program;
pub mod report;
pub mod root;
pub mod root_files;
pub mod root_words;
pub mod rt;
pub mod session;
pub mod supervise;
pub mod tables;
pub mod virtiofs;
pub mod volume;
pub mod wait;
pub mod watch;
