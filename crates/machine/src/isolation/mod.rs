//! Namespaces and mounts around the daemons of a machine.

pub mod id_map;
pub mod mounts;
pub mod read_only;
pub mod sandbox;
pub mod silent_mounts;
pub mod userns;
