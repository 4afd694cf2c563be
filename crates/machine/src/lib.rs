//! Virtual machines of this host: what they boot from, how they start, and what runs in
//! them.
//!
//! A room imports only rooms above it:
//!
//! | Room | Contents |
//! |---|---|
//! | [`host`], [`toolchain`] | programs, KVM and the compiler of this host |
//! | [`plan`] | a machine as a value |
//! | [`root`] | the root file system on the host |
//! | [`kernel`] | kernels, their modules, and the initrd made of them |
//! | [`isolation`] | namespaces and mounts that confine daemons |
//! | [`process`] | QEMU and virtiofsd as children |
//! | [`session`] | streams, terminal and exit status of a command |
//! | [`template`] | machines that were saved, for later runs |
//! | [`running`] | running machines: starting, watching, finding |
//! | [`doctor`] | what this host has and lacks |

pub mod doctor;
pub mod host;
pub mod isolation;
pub mod kernel;
pub mod plan;
pub mod process;
pub mod root;
pub mod running;
pub mod session;
pub mod template;
pub mod toolchain;
