//! The programs of a machine, QEMU and virtiofsd, and how they are started.

pub mod child;
pub mod daemon_arguments;
pub mod handover;
pub mod open_files;
pub mod qemu;
pub mod qmp;
pub mod signals;
pub mod virtiofsd;
