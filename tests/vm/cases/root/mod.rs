//! Roots and shared directories: their contents in the guest, and whether writes reach the host.

pub(crate) mod block_devices;
pub(crate) mod directories;
pub(crate) mod host_root;
pub(crate) mod mounts;
pub(crate) mod open_files;
pub(crate) mod roots;
