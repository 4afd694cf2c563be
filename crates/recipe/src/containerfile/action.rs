//! What the instructions of a stage do, with arguments put in.

use super::config::Config;
use super::modes::CopyMode;
use crate::Position;

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// The instructions, in the order of the text.
    pub instructions: Vec<Done>,
    /// Config of the image behind the last instruction.
    pub config: Config,
}

/// What one instruction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Position of the keyword.
    pub position: Position,
    /// The instruction as written: continuation lines are joined, here-documents follow.
    pub text: String,
    /// What to do.
    pub action: Action,
}

/// What to do for an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: only the config has changed.
    Config,
    /// Run a command (RUN).
    Run(Run),
    /// Copy files (COPY, ADD).
    Copy(Copy),
    /// Make a directory if it is missing (WORKDIR).
    Directory {
        /// Absolute path.
        path: String,
        /// Owner of directories that are made, as in [`Config::user`]; empty: root.
        user: String,
    },
}

/// Command of RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// All words. The shell form has the words of the shell and the text. Empty if there is a
    /// `script`.
    pub words: Vec<String>,
    /// Script that runs as a program: the only here-document, if it begins with `#!`.
    pub script: Option<Script>,
    /// Environment: that of the image, arguments in scope, and proxies that were given.
    pub env: Vec<(String, String)>,
    /// Names in `env` that do not count for the key of a cache: proxies that no ARG declares.
    pub hidden_env: Vec<String>,
    /// User, as in [`Config::user`].
    pub user: String,
    /// Absolute working directory.
    pub workdir: String,
    /// Network that `--network` asks for.
    pub network: Option<crate::Network>,
    /// Mounts for the time of the command, in the order of the text.
    pub mounts: Vec<Mount>,
}

/// Script in a here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Delimiter of the here-document; BuildKit names the file like this.
    pub name: String,
    /// The script.
    pub text: String,
}

/// Permission to write to a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The command cannot write.
    ReadOnly,
    /// The command can write.
    ReadWrite,
}

/// Whether a secret must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A missing secret is an error.
    Must,
    /// A missing secret is left out.
    May,
}

/// Mount of RUN. Targets are absolute and have no `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Directory that stays from build to build.
    Cache {
        /// Name of the directory; the target if none is given.
        id: String,
        /// Mount point.
        target: String,
        /// Whether the command can write.
        access: Access,
        /// Where the first contents come from; `None`: the directory is empty at first.
        from: Option<Origin>,
        /// Absolute path below `from`.
        source: String,
        /// Permission bits of a new directory.
        mode: u16,
        /// Owner of a new directory.
        uid: u32,
        /// Group of a new directory.
        gid: u32,
    },
    /// Secret, as a file or a variable or both.
    Secret {
        /// Name of the secret.
        id: String,
        /// Path of the file; `None`: there is only the variable.
        target: Option<String>,
        /// Name of the variable.
        env: Option<String>,
        /// Whether the secret must be given.
        need: Need,
        /// Permission bits of the file.
        mode: u16,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// Files of the context, a stage or an image.
    Bind {
        /// Where the files come from.
        origin: Origin,
        /// Absolute path in the origin.
        source: String,
        /// Mount point.
        target: String,
        /// Whether the command can write; what it writes is dropped.
        access: Access,
    },
    /// Empty file system in memory.
    Tmpfs {
        /// Mount point.
        target: String,
        /// Size in bytes; `None`: no limit of its own.
        size: Option<u64>,
    },
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The context of the build.
    Context,
    /// Another stage, by its index. It may be a later one.
    Stage(usize),
    /// An image, by its reference.
    Image(String),
}

/// Files that COPY or ADD copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where paths come from.
    pub origin: Origin,
    /// What to copy; at least one.
    pub sources: Vec<Source>,
    /// Absolute target without `..`. A final `/` says that it is a directory.
    pub to: String,
    /// `USER`, `USER:GROUP` or their numbers (`--chown`).
    pub owner: Option<String>,
    /// Permission bits (`--chmod`).
    pub mode: Option<CopyMode>,
    /// Patterns of what is left out (`--exclude`).
    pub exclude: Vec<String>,
    /// Whether archives are unpacked.
    pub unpack: Unpack,
}

/// One source of COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Path or pattern in the origin, as written: it may have a leading `/` or `..`.
    Path(String),
    /// File with the text of a here-document.
    Text {
        /// Name of the file: the delimiter.
        name: String,
        /// Its contents.
        text: String,
    },
    /// Download.
    Url {
        /// Address, `http` or `https`.
        url: String,
        /// SHA-256 in 64 lower-case hexadecimal digits.
        sha256: String,
    },
}

/// Whether archives are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// Archives among the sources are unpacked.
    Yes,
    /// All files are copied as they are.
    No,
}
