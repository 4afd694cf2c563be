//! The command lines `chrootvm` and `mkvirtinitrd`.
//!
//! Arguments become a plan of `machine` or a task on an image; only then is anything
//! started or written.
//!
//! | Module | Content |
//! |---|---|
//! | [`program`], [`logger`] | start and end of a program, its messages |
//! | [`run`] | `chrootvm ROOTFS` |
//! | [`exec`], [`ps`], [`logs`], [`stop`], [`restart`], [`kernel`] | subcommands of the same names |
//! | `named_machine` | requests to a running machine, for [`stop`] and [`restart`] |
//! | [`image_command`] | `chrootvm image` |
//! | [`cache_command`] | `chrootvm cache` |
//! | [`pull`] | options and progress of reading OCI images |
//! | [`mkvirtinitrd`], [`ls`] | packing an initrd, and listing its members |
//! | [`mod@line`] | words of the command lines: values, help, words of other programs |
//! | [`completions`] | `chrootvm completions` |
//! | [`config`] | configuration files |
//! | [`json`] | results as JSON |
//! | [`command`] | options of a command, for [`run`] and [`exec`] |
//! | `image_config` | the config of an OCI image, for [`run`] and [`image_command`] |

pub mod cache_command;
pub mod command;
pub mod completions;
pub mod config;
pub mod exec;
pub mod image_command;
mod image_config;
pub mod json;
pub mod kernel;
pub mod line;
pub mod logger;
pub mod logs;
pub mod ls;
pub mod mkvirtinitrd;
mod named_machine;
pub mod program;
pub mod ps;
pub mod pull;
pub mod restart;
pub mod run;
pub mod stop;
