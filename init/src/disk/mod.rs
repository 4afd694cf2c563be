//! Block devices: finding them by name, label or UUID, and mounting them.
//!
//! Imports `cmdline` (names of devices) and `sys`. Code that knows the mount point of a disk
//! belongs in `root`.

pub mod find;
pub mod mount;
pub mod partitions;
