//! The plan of a run, as values: the machine, its devices, and the daemons beside it.
//!
//! Nothing here opens a file or starts a process, so `--dry-run` can print a plan
//! and tests can compare one. A plan names files, never descriptors.
//!
//! This room imports only the library `files` and the crate `proto`; every other room
//! may import it.

pub mod architecture;
pub mod devices;
pub mod disks;
pub mod exit_status;
pub mod guest;
pub mod machine_plan;
pub mod memory;
pub mod ports;
pub mod qemu_arguments;
pub mod registers;
pub mod shares;
pub mod transport;
pub mod virtiofsd;
pub mod virtiofsd_arguments;
