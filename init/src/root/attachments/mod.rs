//! Shares and disks that the host attaches: virtiofs for the root and beside it, `mount=TAG`
//! below `/run/mnt`, volumes, and `virtinit.mount=`.
//!
//! A mount beside the root is made in a staging directory first, and moves into the new root.
//! Imports `new_root`, and the rooms that `root` imports.

pub mod extra_mounts;
pub mod shares;
pub mod staging;
pub mod virtiofs;
pub mod volumes;
