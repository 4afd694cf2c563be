//! Namespaces and mounts that confine the daemons of a machine.
//!
//! Imports [`crate::plan`] and [`crate::host`] only. The modules that wrap system calls of
//! one process (`private_mounts`, `read_only`, `single_file`, `userns`) run in a child, before it executes a daemon.

pub mod id_map;
pub mod mounts;
pub mod private_mounts;
pub mod read_only;
pub mod sandbox;
pub mod silent_mounts;
pub mod single_file;
pub mod userns;
