//! Virtual machines of this host: what boots, how it is started, what runs in it.
//!
//! | Room | What |
//! |---|---|
//! | [`kernel`] | kernels, their modules, the initrd packed of them |
//! | [`plan`] | what will be run, as a value |
//! | [`isolation`] | namespaces and mounts around the daemons |
//! | [`process`] | QEMU, virtiofsd, and how they are started |
//! | [`session`] | a command's streams, terminal and status |
//! | [`running`] | a machine that runs: watching, ending, finding it |
//! | [`host`], [`toolchain`] | programs, KVM, the compiler |
//! | [`doctor`] | what this host has and lacks |

pub mod doctor;
pub mod host;
pub mod isolation;
pub mod kernel;
pub mod plan;
pub mod process;
pub mod running;
pub mod session;
pub mod toolchain;
