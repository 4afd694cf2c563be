//! The values that a recipe consists of, as the parser returns them.
//!
//! Guest paths are absolute and have no `..`; paths of the package are relative and stay
//! inside it. The parser makes sure of both, so code that builds these values itself must do
//! so, too.

mod network;
mod output;
mod position;
mod recipe;
mod run;
mod step;

pub use network::Network;
pub use output::Output;
pub use position::{Mistake, Position};
pub use recipe::{
    Base, Build, Busybox, BusyboxSource, From, HostVolume, Init, Normalisation, Recipe, Secret,
};
pub use run::{Health, Machine, Run, RunCommand};
pub use step::{
    Action, CommandStep, Contents, DirectoryStep, LinkStep, Mode, Program, PutStep, Scope, Step,
};
