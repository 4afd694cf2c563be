//! One step of a recipe.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::network::Network;
use super::position::Position;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where the recipe has it.
    pub position: Position,
    /// Text to show for it.
    pub label: Option<String>,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Runs a program in the machine.
    Command(CommandStep),
    /// Puts files into the image.
    Put(PutStep),
    /// Makes a symbolic link.
    Link(LinkStep),
    /// Makes a directory, and those above it.
    Directory(DirectoryStep),
    /// Removes what patterns match; a pattern after `!` keeps. The last pattern that matches
    /// a name wins.
    Remove(Vec<String>),
}

/// Program to run in the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandStep {
    /// The program.
    pub program: Program,
    /// Network; `None` for that of the build.
    pub network: Option<Network>,
    /// `USER[:GROUP]`, names or numbers; `None` for root.
    pub user: Option<String>,
    /// Guest path of the working directory; `None` for `/`.
    pub workdir: Option<String>,
    /// Variables that are added to those of the build.
    pub env: BTreeMap<String, String>,
    /// Names of secrets, files at /run/secrets/NAME.
    pub secrets: Vec<String>,
    /// Files and directories of the package, seen at /run/inputs/NAME. NAME is the last name of
    /// the path; no two are equal.
    pub inputs: Vec<PathBuf>,
    /// Time limit; `None` for that of the build.
    pub timeout: Option<Duration>,
}

impl CommandStep {
    /// A step that runs `program` and has the settings of the build.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            network: None,
            user: None,
            workdir: None,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            inputs: Vec::new(),
            timeout: None,
        }
    }
}

/// Program of a command step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Text for `sh -eu -c`.
    Shell(String),
    /// Program and its arguments; never empty.
    Words(Vec<String>),
    /// File of the package, run as a program.
    Script(PathBuf),
}

/// Files to put into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutStep {
    /// The files.
    pub contents: Contents,
    /// Guest path. If it ends in `/`, it is a directory that gets the files.
    pub to: String,
    /// `USER[:GROUP]`, names or numbers; `None` for root.
    pub owner: Option<String>,
    /// Mode of the files.
    pub mode: Mode,
    /// Where the files are seen.
    pub scope: Scope,
}

/// Source of the files of a put step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// File, directory (its contents) or glob of the package.
    Files(String),
    /// Contents of one file.
    Text(String),
    /// Download of one file.
    Url {
        /// Address, http or https.
        url: String,
        /// SHA-256 of the file, 64 lower-case hexadecimal digits.
        sha256: String,
    },
}

/// Mode of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By the execute bits of the source and by the destination.
    #[default]
    Auto,
    /// These permission bits, at most 0o7777.
    Fixed(u16),
}

/// Where the files of a put step are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// In the image.
    #[default]
    Image,
    /// In the machine of the build only.
    Build,
}

/// Symbolic link to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStep {
    /// Text of the link.
    pub target: String,
    /// Guest path of the link.
    pub to: String,
    /// `USER[:GROUP]`, names or numbers; `None` for root.
    pub owner: Option<String>,
}

/// Directory to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryStep {
    /// Guest path.
    pub path: String,
    /// `USER[:GROUP]`, names or numbers; `None` for root.
    pub owner: Option<String>,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
}

impl DirectoryStep {
    /// Default of `mode`.
    pub const MODE: u16 = 0o755;
}
