//! What the host and the guest of a virtinitrd machine say to each other.

#![no_std]
// The guest's PID 1 reads what is parsed here, and does not panic on input.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod control;
pub mod error;
pub mod etc;
pub mod parameters;
pub mod port;
pub mod settings;
pub mod status;
pub mod superblock;
pub mod tag;
pub mod text;
pub mod words;
