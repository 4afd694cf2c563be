//! The command lines `chrootvm` and `mkvirtinitrd`.
//!
//! Arguments become a plan of `machine` or a task on an image; only then is anything
//! started or written.

pub mod command;
pub mod directories;
pub mod doctor;
pub mod exec;
pub mod image_tasks;
pub mod keep;
pub mod kernel;
pub mod last_words;
pub mod logger;
pub mod ls;
pub mod machine_options;
pub mod mkvirtinitrd;
mod named;
pub mod program;
pub mod ps;
pub mod run;
