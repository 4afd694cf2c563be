//! Parts of instructions as written, before arguments are put in.

use super::action::Unpack;
use super::documents::Document;
use crate::Network;

/// One declaration of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    /// Name.
    pub(super) name: String,
    /// Default as written.
    pub(super) default: Option<String>,
}

/// Name and value of ENV and LABEL as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Name.
    pub(super) name: String,
    /// Value.
    pub(super) value: String,
}

/// Command of RUN, CMD and ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Words that run without a shell.
    Words(Vec<String>),
    /// Text for the shell.
    Shell(String),
}

/// RUN as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunForm {
    /// The command.
    pub(super) command: RunCommand,
    /// Network.
    pub(super) network: Option<Network>,
    /// Values of `--mount`, as fields.
    pub(super) mounts: Vec<Vec<Field>>,
}

/// Command of RUN as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunCommand {
    /// A command; here-documents that belong to it are in its text.
    Command(Command),
    /// A here-document alone.
    Document(Document),
}

/// Field of a mount: `key=value`, or `key` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Key, in its first spelling of the table.
    pub(super) key: &'static str,
    /// Value as written.
    pub(super) value: Option<String>,
}

/// COPY or ADD as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CopyForm {
    /// Keyword, for messages.
    pub(super) keyword: CopyKeyword,
    /// Sources.
    pub(super) sources: Vec<SourceForm>,
    /// Target.
    pub(super) to: String,
    /// `--from`.
    pub(super) from: Option<String>,
    /// `--chown`.
    pub(super) owner: Option<String>,
    /// `--chmod`.
    pub(super) mode: Option<String>,
    /// `--exclude`.
    pub(super) exclude: Vec<String>,
    /// `--checksum`.
    pub(super) checksum: Option<String>,
    /// `--unpack`, if given.
    pub(super) unpack: Option<Unpack>,
}

/// Keyword of an instruction that copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyKeyword {
    /// ADD: it downloads and unpacks, too.
    Add,
    /// COPY.
    Copy,
}

impl CopyKeyword {
    /// The keyword.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Copy => "COPY",
        }
    }
}

/// Source of COPY or ADD as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceForm {
    /// Path, pattern or address.
    Path(String),
    /// Here-document.
    Document(Document),
}
