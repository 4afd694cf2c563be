//! PID 1 of an initramfs that boots a directory over virtiofs, a disk, or itself.
//!
//! The rooms of this crate, each of which imports only those above it:
//!
//! | Room | Contents |
//! |---|---|
//! | [`rt`] | start-up, allocator, raw calls: all the `unsafe` code |
//! | [`sys`] | system calls in the shapes that every room needs |
//! | [`report`] | messages, and the watch on a boot that hangs |
//! | [`cmdline`] | the kernel command line, from bytes to a value |
//! | [`transport`] | the ways to the host: ports |
//! | [`disk`] | block devices and partitions |
//! | [`root`] | the root file system and all mounts in it |
//! | [`run`] | the program that the machine runs |
//! | [`boot`] | the order of the boot, and the end of a failed one |
//!
//! Code that decides does no I/O, so that it can be tested on a host.

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
