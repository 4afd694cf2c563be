//! The host's half of virtinitrd, as a library: `main` only parses and calls.
//!
//! Arguments become a value that says what will be done ([`vm::plan::Plan`],
//! [`archive::Archive`]); only then is anything written or started.

pub mod archive;
pub mod bench;
pub mod check;
pub mod demo;
pub mod dist;
pub mod doctor;
pub mod files;
pub mod fuzz;
pub mod guest;
pub mod host;
pub mod image;
pub mod kmod;
pub mod ls;
pub mod notes;
pub mod output;
pub mod own_kernel;
pub mod pack;
pub mod rootdir;
pub mod tell;
pub mod test;
pub mod testbed;
pub mod vm;
pub mod vmlinux;
pub mod workspace;
