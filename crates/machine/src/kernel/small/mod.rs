//! A small guest kernel: the distribution's source with the configuration of
//! [`fragment`], without modules. It is built once and kept.

pub mod build;
pub mod cache;
pub mod fragment;
pub mod proof;
pub mod source;
