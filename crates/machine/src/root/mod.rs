//! The root file system on the host: what ROOTFS is, and what the host can read in it.
//!
//! These modules open files but start no process. They import [`crate::plan`] and
//! [`crate::host`] only.

pub mod architecture;
pub mod disk_files;
pub mod kinds;
pub mod mount_points;
pub mod needed_modules;
pub mod payload;
pub mod resolv_conf;
