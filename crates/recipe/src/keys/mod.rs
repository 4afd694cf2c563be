//! The keys of a recipe.
//!
//! These tables are the grammar: the parser and the JSON schema follow them.

mod build;
mod output;
mod run;
mod step;

use crate::table::Form::{Number, Table as One, Tables, Text};
use crate::table::Need::{May, Must};
use crate::table::{Key, Table, rule};

/// Version of the grammar.
pub(crate) const VERSION: u32 = 1;

/// Keys of the whole file.
#[rustfmt::skip]
pub(crate) const RECIPE: Table = Table { name: "a recipe", example: "", keys: &[
    Key { name: "version",  need: Must, form: Number(VERSION, VERSION), about: "Version of the grammar" },
    Key { name: "name",     need: May,  form: Text(rule::NAME),         about: "Name of what is made" },
    Key { name: "manifest", need: May,  form: Text(rule::HOST_PATH),    about: "JSON file that is written after the outputs: their sizes and SHA-256, kernel, workload" },
    Key { name: "from",     need: May,  form: One(&build::FROM),        about: "The tree that the steps start with; without it, an empty tree with the usual directories" },
    Key { name: "build",    need: May,  form: One(&build::BUILD),       about: "Settings of the build" },
    Key { name: "step",     need: May,  form: Tables(&step::STEP),      about: "The steps, in their order; each has exactly one verb" },
    Key { name: "init",     need: May,  form: One(&build::INIT),        about: "PID 1 of the image; without it, the built-in one if [run] has a command" },
    Key { name: "busybox",  need: May,  form: One(&build::BUSYBOX),     about: "Busybox to install, with links for its applets" },
    Key { name: "run",      need: May,  form: One(&run::RUN),           about: "The workload; what is missing comes from the base" },
    Key { name: "machine",  need: May,  form: One(&run::MACHINE),       about: "What the workload needs of a machine; for the manifest" },
    Key { name: "output",   need: May,  form: Tables(&output::OUTPUT),  about: "Files to make; without any, the command line names one" },
] };
