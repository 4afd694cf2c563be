//! The guest's root file system: mounting it, filling it, and making it `/`.
//!
//! A new kind of root is a variant of `cmdline::root::Root`, a file here that mounts it,
//! and an arm in `mount`. Imports `disk`, `cmdline`, `sys` and `report`. Code that knows
//! what the machine runs belongs in `run`.

pub mod attachments;
pub mod etc;
pub mod files;
pub mod hosts;
pub mod image_volumes;
pub mod initramfs;
pub mod mount;
pub mod new_root;
pub mod overlay;
pub mod switch;
