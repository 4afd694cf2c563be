//! Kernels: which one to boot, its modules, and the initrd packed of them.

pub mod boot_files;
pub mod installed;
pub mod modules;
pub mod pack;
pub mod signatures;
pub mod small;
pub mod vmlinux;
