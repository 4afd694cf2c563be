//! Block devices: finding them by name, label or UUID, and mounting them.
//!
//! Imports `cmdline` (names of devices), `sys` and `report`. A file that knows where a
//! disk is mounted belongs in `root`.

pub mod find;
pub mod mount;
pub mod partitions;
