//! The steps of a build as they are planned: each with its key, and with what it needs from the
//! host.

use std::sync::Arc;

use anyhow::{Context, Result};
use recipe::containerfile::{CopyMode, Unpack};
use recipe::{Busybox, CommandStep, DirectoryStep, LinkStep, Network, PutStep};
use step::request::{Access, BindAccess};

use super::super::kept::key::Key;
use super::Package;
use super::inputs::Input;

/// A step with everything that it needs from the host.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct Planned {
    /// The package of its recipe.
    pub(in crate::image_command::recipe) package: Arc<Package>,
    /// Its number for people, such as `step 3` or `build: step 3`.
    pub(in crate::image_command::recipe) number: String,
    /// Its name for people.
    pub(in crate::image_command::recipe) title: String,
    /// Where its recipe has it.
    pub(in crate::image_command::recipe) place: String,
    pub(in crate::image_command::recipe) work: Work,
    /// What the key consists of, besides the key before.
    pub(in crate::image_command::recipe) parts: Vec<Part>,
    /// Key of the state after the step.
    pub(in crate::image_command::recipe) key: Key,
}

/// What a step does, with the files that it needs.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) enum Work {
    /// Makes the directories of an empty tree.
    Skeleton,
    /// Installs busybox.
    Busybox(Busybox, Option<Input>),
    /// Runs a program.
    Command(Box<Command>),
    /// Puts files into the tree. A download has no inputs.
    Put(PutStep, Vec<Input>),
    /// Shows files to the commands that follow. A download has no inputs.
    Mount(PutStep, Vec<Input>),
    /// Makes a link.
    Link(LinkStep),
    /// Makes a directory.
    Directory(DirectoryStep),
    /// Removes files.
    Remove(Vec<String>),
    /// Copies files as COPY and ADD do.
    Copy(Copy),
    /// Makes a working directory as WORKDIR does, unless there is one.
    WorkingDirectory {
        /// Absolute path in the image.
        path: String,
        /// Its owner, `USER[:GROUP]`; `None` for root.
        owner: Option<String>,
    },
}

/// A command step.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct Command {
    pub(in crate::image_command::recipe) step: CommandStep,
    /// Its network.
    pub(in crate::image_command::recipe) network: Network,
    /// Files at `/run/inputs`.
    pub(in crate::image_command::recipe) inputs: Vec<Input>,
    /// The program, if it is a file of the package.
    pub(in crate::image_command::recipe) script: Option<Input>,
    /// Variables that count neither for the key nor for anything else but the program.
    pub(in crate::image_command::recipe) hidden_env: Vec<(String, String)>,
    /// Directories that are kept between builds.
    pub(in crate::image_command::recipe) caches: Vec<CacheUse>,
    /// What else it sees while it runs, in the order of its text.
    pub(in crate::image_command::recipe) mounts: Vec<Mount>,
}

/// A cache of a command.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct CacheUse {
    /// Names what is kept.
    pub(in crate::image_command::recipe) key: Key,
    /// Path in the image.
    pub(in crate::image_command::recipe) path: String,
    pub(in crate::image_command::recipe) access: Access,
    /// Permissions, user and group of a new cache; `None` for those of the directory at its path.
    pub(in crate::image_command::recipe) meta: Option<(u16, u32, u32)>,
    /// The directory with whose contents a new cache begins.
    pub(in crate::image_command::recipe) seed: Option<Files>,
}

/// Something that a command sees only while it runs.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) enum Mount {
    /// A file or a directory.
    Files {
        /// Exactly one.
        files: Files,
        /// Path in the image.
        path: String,
        access: BindAccess,
    },
    /// Empty directory in memory.
    Tmpfs {
        /// Path in the image.
        path: String,
        /// Most bytes.
        size: Option<u64>,
    },
    /// A secret of the package.
    Secret(SecretUse),
}

/// How a command sees a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) struct SecretUse {
    /// Its name in the package.
    pub(in crate::image_command::recipe) id: String,
    /// Path of a file in the image.
    pub(in crate::image_command::recipe) path: Option<String>,
    /// Variable that has its bytes.
    pub(in crate::image_command::recipe) env: Option<String>,
    /// Whether the step fails without it.
    pub(in crate::image_command::recipe) is_required: bool,
    /// Permissions of the file.
    pub(in crate::image_command::recipe) mode: u16,
    /// User and group of the file; `None` for those of the command.
    pub(in crate::image_command::recipe) owner: Option<(u32, u32)>,
}

/// Files that are copied.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct Copy {
    /// What is copied, in the order of the text.
    pub(in crate::image_command::recipe) sources: Vec<CopySource>,
    /// Absolute path in the image; with a slash at its end, it is a directory.
    pub(in crate::image_command::recipe) to: String,
    /// `USER[:GROUP]`; `None` for the owner that the source has.
    pub(in crate::image_command::recipe) owner: Option<String>,
    /// Change of modes; `None` for those of the source.
    pub(in crate::image_command::recipe) mode: Option<CopyMode>,
    /// Whether archives are unpacked.
    pub(in crate::image_command::recipe) unpack: Unpack,
}

/// What is copied.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) enum CopySource {
    /// Files of a tree, or a text.
    Files(Files),
    /// Download.
    Url {
        /// Address, http or https.
        url: String,
        /// 64 hexadecimal digits.
        sha256: String,
    },
}

/// Files that a step uses.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) enum Files {
    /// Files that were read.
    Read(Arc<[Input]>),
    /// Files of another tree, which is read when a step needs it.
    Later(Selection),
}

/// Files of the tree of a stage or of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::image_command::recipe) struct Selection {
    /// The tree.
    pub(in crate::image_command::recipe) tree: TreeName,
    /// Pattern of the paths.
    pub(in crate::image_command::recipe) pattern: String,
    /// Patterns of what is left out.
    pub(in crate::image_command::recipe) exclude: Vec<String>,
}

/// A tree besides the one that steps change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::image_command::recipe) enum TreeName {
    /// The stage with this index.
    Stage(usize),
    /// The image with this name in the file.
    Image(String),
}

/// Reads the files of a selection.
pub(in crate::image_command::recipe) type Select<'a> =
    dyn Fn(&Selection) -> Result<Vec<Input>> + Sync + 'a;

/// One thing that decides about the result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) struct Part {
    /// What it is, as the subject of a sentence.
    pub(in crate::image_command::recipe) what: String,
    /// Its value, or a hash of that.
    pub(in crate::image_command::recipe) bytes: Vec<u8>,
}

impl Planned {
    /// Fails if a file of the package has changed since the step was planned.
    ///
    /// # Errors
    /// A file has changed, or cannot be read any more.
    pub(in crate::image_command::recipe) fn check_unchanged(&self) -> Result<()> {
        let of_files = self.work.files().into_iter().flat_map(|files| match files {
            Files::Read(inputs) => &inputs[..],
            Files::Later(_) => &[],
        });
        let inputs = self.work.inputs().into_iter().chain(of_files);
        let mut checked = inputs.map(Input::check_unchanged);
        checked.find(Result::is_err).unwrap_or(Ok(())).with_context(|| self.place.clone())
    }

    /// The files of other trees that the step uses.
    pub(in crate::image_command::recipe) fn selections(&self) -> Vec<&Selection> {
        self.work.files().into_iter().filter_map(Files::selection).collect()
    }
}

impl Work {
    /// The inputs of steps of a recipe.
    fn inputs(&self) -> Vec<&Input> {
        match self {
            Self::Busybox(_, input) => input.iter().collect(),
            Self::Command(command) => command.inputs.iter().chain(&command.script).collect(),
            Self::Put(_, inputs) | Self::Mount(_, inputs) => inputs.iter().collect(),
            Self::Skeleton
            | Self::Link(_)
            | Self::Directory(_)
            | Self::Remove(_)
            | Self::Copy(_)
            | Self::WorkingDirectory { .. } => Vec::new(),
        }
    }

    /// The files of steps of a Containerfile.
    fn files(&self) -> Vec<&Files> {
        match self {
            Self::Copy(copy) => copy.sources.iter().filter_map(CopySource::files).collect(),
            Self::Command(command) => {
                let seeds = command.caches.iter().filter_map(|cache| cache.seed.as_ref());
                command.mounts.iter().filter_map(Mount::files).chain(seeds).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl CopySource {
    fn files(&self) -> Option<&Files> {
        match self {
            Self::Files(files) => Some(files),
            Self::Url { .. } => None,
        }
    }
}

impl Mount {
    fn files(&self) -> Option<&Files> {
        match self {
            Self::Files { files, .. } => Some(files),
            Self::Tmpfs { .. } | Self::Secret(_) => None,
        }
    }
}

impl Files {
    fn selection(&self) -> Option<&Selection> {
        match self {
            Self::Read(_) => None,
            Self::Later(selection) => Some(selection),
        }
    }

    /// The inputs; `select` reads those of other trees.
    ///
    /// # Errors
    /// Those of `select`.
    pub(in crate::image_command::recipe) fn inputs(
        &self,
        select: &Select<'_>,
    ) -> Result<Vec<Input>> {
        match self {
            Self::Read(inputs) => Ok(inputs.to_vec()),
            Self::Later(selection) => select(selection),
        }
    }
}

impl Part {
    /// The key of what follows on the state `key` by `parts`.
    pub(in crate::image_command::recipe) fn key_after(key: &Key, parts: &[Self]) -> Key {
        let bytes = parts.iter().flat_map(|part| [part.what.as_bytes(), &part.bytes]);
        key.then(&bytes.collect::<Vec<_>>())
    }

    /// The part called `what`, such as `its text`.
    pub(in crate::image_command::recipe) fn new(
        what: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self { what: what.into(), bytes: bytes.into() }
    }
}
