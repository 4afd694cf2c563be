//! `chrootvm` on the host: options, kernels, modules, users, processes that end.

pub(crate) mod console;
pub(crate) mod foreign;
pub(crate) mod host;
pub(crate) mod kernel_tree;
pub(crate) mod kernel_versions;
pub(crate) mod kvm;
pub(crate) mod modules;
pub(crate) mod options;
pub(crate) mod pvh;
pub(crate) mod unprivileged;
