//! A Containerfile as its text has it: stages and instructions, before arguments are put in.

use std::collections::BTreeMap;

use super::config::Health;
use super::form::{Argument, Command, CopyForm, Pair, RunForm};
use crate::{Mistake, Position};

/// Containerfile: the stages of a build, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containerfile {
    /// Remarks about what works, but not as the author may think; in the order of the text.
    pub notes: Vec<Mistake>,
    /// All stages; at least one.
    pub stages: Vec<Stage>,
    /// Arguments before the first FROM, with their positions.
    pub(super) globals: Vec<(Position, Argument)>,
    /// Character that escapes another one: a backslash, or a backquote by the directive `escape`.
    pub(super) escape: char,
}

/// Stage of a build: a base and the instructions on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Position of its FROM.
    pub position: Position,
    /// FROM as written, for titles.
    pub text: String,
    /// Name behind AS, in lower case.
    pub name: Option<String>,
    /// Base as written; it may have variables.
    pub base: String,
    /// Value of `--platform` as written; it may have variables.
    pub platform: Option<String>,
    /// Instructions behind FROM.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Position of its keyword.
    pub position: Position,
    /// The instruction as written: continuation lines are joined, here-documents follow.
    pub text: String,
    /// What it says.
    pub(super) kind: Kind,
}

/// What an instruction says, by keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// ARG.
    Arg(Vec<Argument>),
    /// CMD.
    Cmd(Command),
    /// COPY and ADD.
    Copy(Box<CopyForm>),
    /// ENTRYPOINT.
    Entrypoint(Command),
    /// ENV.
    Env(Vec<Pair>),
    /// EXPOSE: ports and ranges.
    Expose(Vec<String>),
    /// HEALTHCHECK.
    Health(Health),
    /// LABEL.
    Label(Vec<Pair>),
    /// MAINTAINER.
    Maintainer(String),
    /// RUN.
    Run(Box<RunForm>),
    /// SHELL.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    StopSignal(String),
    /// USER.
    User(String),
    /// VOLUME.
    Volume(Vec<String>),
    /// WORKDIR.
    Workdir(String),
}

/// Base of a stage, with arguments put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The base.
    pub base: FromBase,
    /// Platform that `--platform` asks for, such as `linux/arm64`.
    pub platform: Option<String>,
}

/// Base of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromBase {
    /// An empty tree.
    Scratch,
    /// An earlier stage, by its index.
    Stage(usize),
    /// An image, by its reference.
    Image(String),
}

/// Arguments of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Build arguments that were given, by name.
    pub given: BTreeMap<String, String>,
    /// Platform of the machine that builds: `OS/ARCHITECTURE`, perhaps with `/VARIANT`.
    pub build_platform: String,
    /// Platform of the image, in the same form.
    pub target_platform: String,
}
