//! Kernels: which one to boot, its modules, and the initrd that is packed of them.
//!
//! | Module | What it does | Uses |
//! |---|---|---|
//! | [`tree`] | recognises a directory in which a kernel was built, and finds its image | – |
//! | [`modules`] | names → files, in load order, stripped | `tree` |
//! | [`vmlinux`] | recognises and unpacks a kernel image, and caches the result | – |
//! | [`installed`] | lists the kernels that a root file system has | – |
//! | [`located`] | names a file together with the root file system that has it | – |
//! | [`signatures`] | decides which modules may lose their signature | `modules`, `located` |
//! | [`pack`] | writes `/init` and modules as an initrd | `modules` |
//! | [`initrd`] | describes the initrd of one machine | `pack`, `located` |
//! | [`bootable`] | opens the file that QEMU loads | `vmlinux`, `located` |
//! | [`needs`] | names the options that a guest's kernel needs, and those that one lacks | – |
//! | [`find`] | chooses kernel and modules for one machine | all of these |
//! | [`of_host`] | chooses a kernel of the host, for a root without one | `installed`, `modules` |
//! | [`small`] | builds and keeps a small kernel without modules | `vmlinux` |
//!
//! This room knows neither QEMU's command line nor a machine's plan, only the architectures and
//! the buses that a machine can have. Paths in a root file
//! system are looked up through [`files::lookup::Files`].

pub mod bootable;
pub mod find;
pub mod initrd;
pub mod installed;
pub mod located;
pub mod modules;
pub mod needs;
pub mod of_host;
pub mod pack;
pub mod signatures;
pub mod small;
pub mod tree;
pub mod vmlinux;
