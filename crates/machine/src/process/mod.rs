//! The programs of a machine, QEMU and virtiofsd: finding them, starting them as children
//! that end with chrootvm, and talking to QEMU.
//!
//! Imports [`crate::plan`], [`crate::host`] and [`crate::isolation`].

pub mod answers;
pub mod child;
pub mod handover;
pub mod messages;
pub mod notify;
pub mod open_files;
pub mod qemu;
pub mod qmp;
pub mod signals;
pub mod virtiofsd;
pub mod wait;
