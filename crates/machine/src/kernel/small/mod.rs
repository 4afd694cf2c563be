//! The small kernel for guests: the distribution's kernel source, built with a configuration
//! that has only what a machine of chrootvm needs, and without modules.
//!
//! | Module | What it does |
//! |---|---|
//! | [`fragment`] | holds the configuration, `kernel/config` |
//! | [`source`] | finds, identifies and unpacks the source |
//! | [`mod@build`] | configures and compiles it |
//! | [`proof`] | makes the root file system in which a new kernel must run a command |
//! | [`cache`] | keeps the kernels that passed |
//!
//! `chrootvm kernel build` calls these in this order.

pub mod build;
pub mod cache;
pub mod fragment;
pub mod proof;
pub mod source;
