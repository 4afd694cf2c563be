//! Containerfiles: text → stages, and stages → what their instructions do.
//!
//! Interface: the Dockerfile reference (docs.docker.com/reference/dockerfile); where it is
//! silent, BuildKit decides (`frontend/dockerfile`). What is not supported is a mistake that
//! names it, never silence.
//!
//! The parser is our own. parse-dockerfile 0.1.9 was tried: it drops quotes, and it fails on
//! here-documents that do not begin the command, such as `RUN python3 <<EOF` and
//! `RUN cat <<A > /x && cat <<B > /y`, which the reference has as examples.
//!
//! Invariants: nothing here does input or output; no text makes it panic; and the memory and the
//! time that a text takes are bounded: `lines` bounds the text, `parse` the number of stages,
//! `budget` what variables and inherited configs make of it in all stages together, and `evaluate`
//! the texts of a config.
//!
//! | Module | Contents |
//! |---|---|
//! | `model` | [`Containerfile`], [`Stage`], [`Arguments`] |
//! | `config`, `action` | [`Config`], [`Evaluated`]: what the instructions do |
//! | `parse` | [`parse()`]: text → [`Containerfile`] |
//! | `lines`, `directives`, `documents` | physical lines → logical lines with here-documents |
//! | `words`, `flags`, `durations`, `modes`, `ports`, `paths` | parts of instructions |
//! | `instruction`, `form`, `mounts` | tables of instructions, flags and mounts; what they say |
//! | `froms` | bases of stages: [`Containerfile::froms`], [`Containerfile::stage`] |
//! | `evaluate`, `commands` | [`Containerfile::evaluate`] |
//! | `check` | [`Containerfile::check`]: mistakes that are known without any base |
//! | `scope`, `expand`, `pattern`, `budget` | variables |
//! | `text` | texts of instructions, for titles |

mod action;
mod budget;
mod check;
mod commands;
mod config;
mod directives;
mod documents;
mod durations;
mod evaluate;
mod expand;
mod flags;
mod form;
mod froms;
mod instruction;
mod lines;
mod model;
mod modes;
mod mounts;
mod parse;
mod paths;
mod pattern;
mod ports;
mod scope;
mod text;
mod words;

pub use action::{
    Access, Action, Copy, Done, Evaluated, Mount, Need, Origin, Run, Script, Source, Unpack,
};
pub use config::{Config, DEFAULT_PATH, Health, HealthTest};
pub use model::{Arguments, Containerfile, From, FromBase, Instruction, Stage};
pub use modes::{Clause, CopyMode, FileKind};
pub use parse::parse;
