//! A build from the command line to a tree and its config.

use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use files::tell;
use image::edit::inject;
use image::source::FileId;
use image::tree::Tree;
use machine::host::canonical;
use oci::name::platform::Platform;
use recipe::containerfile::{self, Arguments, Containerfile};

use super::super::super::sources::{BuiltImage, ReadSource, SourceKind};
use super::super::super::write::oci_archive::OwnedStep;
use super::super::kept::key::Key;
use super::super::kept::store::Store;
use super::super::options::RecipeOptions;
use super::super::package::planned::Work;
use super::super::package::{Package, WrongRecipe, text_of};
use super::super::run::halt::lock;
use super::super::run::{self, Keeping, Manner, OnFailure, Reuse};
use super::super::tree::base::{OpenBase, root_meta};
use super::super::tree::fetch::Fetcher;
use super::config::to_process;
use super::context::Directory;
use super::images::Images;
use super::options::ContainerfileOptions;
use super::stages::{Layers, Purpose, Settings, Stage, Stages};
use crate::pull::PullArguments;

/// Variable that is a build argument, too (reproducible-builds.org/specs/source-date-epoch).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Name of standard input.
const STDIN: &str = "-";

/// The command line of a build.
#[derive(Debug)]
pub(in crate::image_command) struct BuildContainerfile<'a> {
    /// The Containerfile, or `-` for standard input.
    pub(in crate::image_command) file: &'a Path,
    /// The directory with files for COPY and ADD.
    pub(in crate::image_command) context: &'a Path,
    pub(in crate::image_command) options: &'a ContainerfileOptions,
    pub(in crate::image_command) of_recipes: &'a RecipeOptions,
    pub(in crate::image_command) pull: &'a PullArguments,
    /// Outputs, which are no part of the context.
    pub(in crate::image_command) left_out: Vec<FileId>,
}

/// A Containerfile that was read, with all that it needs.
#[derive(Debug)]
pub(in crate::image_command) struct Source {
    read: ReadText,
    store: Store,
    manner: Manner,
    /// Platform of the image.
    platform: Platform,
}

/// A build whose steps are known.
pub(in crate::image_command) struct Ready<'a> {
    stages: Stages<'a>,
    target: usize,
    stage: Arc<Stage>,
}

/// Layers and author of a built image, for an OCI archive.
#[derive(Debug, Default)]
pub(in crate::image_command) struct BuiltLayers {
    /// The tree below the layer that the output adds: with a layer of each instruction that after
    /// the last one, else that of the base.
    pub(in crate::image_command) before: Option<Tree>,
    /// The instructions and their layers, if they are wanted.
    pub(in crate::image_command) instructions: Vec<OwnedStep>,
    /// Author of the image.
    pub(in crate::image_command) author: Option<String>,
}

impl BuiltLayers {
    /// Limits the times of files in the layers of instructions, in seconds since 1970. The layers
    /// of a base stay; so that no other layer repeats their files, the tree below it has the same
    /// limit.
    pub(in crate::image_command) fn clamp_times(&mut self, latest: u32) {
        let layers = self.instructions.iter_mut().filter_map(|step| step.layer.as_mut());
        for tree in layers.chain(&mut self.before) {
            inject::clamp_times(tree, latest);
        }
    }
}

/// Layers that the output needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command) enum WantedLayers {
    /// Each one, for an OCI archive.
    Each,
    /// One of all, on the layers of the base.
    Squashed,
    /// None: the output is no OCI archive.
    None,
}

impl BuildContainerfile<'_> {
    /// Reads the Containerfile.
    ///
    /// # Errors
    /// It cannot be read; [`WrongRecipe`].
    pub(in crate::image_command) fn read(&self) -> Result<Source> {
        let reuse = if self.of_recipes.no_cache { Reuse::Before(0) } else { Reuse::All };
        Ok(Source {
            read: ReadText::read(self.file)?,
            store: Store::of_user(),
            manner: Manner {
                keeping: Keeping::Everything,
                reuse,
                machine_words: self.of_recipes.machine_words(),
            },
            platform: self.pull.platform().cloned().unwrap_or_else(Platform::host),
        })
    }

    /// Opens bases and computes the keys of all steps that the target needs.
    ///
    /// # Errors
    /// A base that cannot be opened; a file that is missing; [`WrongRecipe`]. A stage that other
    /// stages copy from may have to be built first: errors of its steps.
    pub(in crate::image_command) fn prepare<'b>(&'b self, source: &'b Source) -> Result<Ready<'b>> {
        let Source { read, store, manner, platform } = source;
        let ReadText { file, text, shown, time } = read;
        let mut arguments = Arguments {
            given: self.options.arguments()?,
            build_platform: Platform::host().to_string(),
            target_platform: platform.to_string(),
        };
        for name in file.undeclared(&arguments) {
            log::warn!("--build-arg {name}: no ARG declares it");
        }
        if let Ok(epoch) = std::env::var(EPOCH) {
            arguments.given.entry(EPOCH.to_owned()).or_insert(epoch);
        }
        let last = file.stages.len().checked_sub(1).context("there is no stage")?;
        let target = match self.options.target() {
            None => last,
            Some(name) => file.stage(name).with_context(|| {
                let names = file.stages.iter().filter_map(|stage| stage.name.clone());
                let numbers = format!("0 to {last}");
                let known = names.chain([numbers]).collect::<Vec<_>>().join(", ");
                format!("--target {name}: there is no such stage; known are {known}")
            })?,
        };
        let directory = canonical(self.context)?;
        ensure!(directory.is_dir(), "{} is no directory", self.context.display());
        let beside = (self.file.as_os_str() != STDIN).then_some(self.file);
        let context = Directory::context(&directory, beside, self.left_out.clone());
        let package = Package::of_containerfile(shown, &directory, self.options.settings()?, text);
        let stages = Stages::new(Settings {
            file,
            arguments,
            package: Arc::new(package),
            context,
            images: Images::new(self.options.contexts(), &self.left_out, self.pull, store)?,
            store,
            manner,
            on_failure: match self.of_recipes.shell_on_error {
                true => OnFailure::Shell,
                false => OnFailure::End,
            },
            purpose: match (self.of_recipes.shown.dry_run, self.of_recipes.shown.explain) {
                (true, _) => Purpose::Show,
                (false, true) => Purpose::Explain,
                (false, false) => Purpose::Build,
            },
            fetcher: Fetcher::new(self.pull),
            time: *time,
            platform: platform.clone(),
        })?;
        let stage = stages.told(stages.stage(target))?;
        Ok(Ready { stages, target, stage })
    }
}

/// Checks the text of the Containerfile `file`. Returns a line about it.
///
/// # Errors
/// It cannot be read; [`WrongRecipe`].
pub(in crate::image_command) fn check(file: &Path) -> Result<String> {
    let ReadText { file, shown, .. } = ReadText::read(file)?;
    let platform = Platform::host().to_string();
    let arguments = Arguments {
        build_platform: platform.clone(),
        target_platform: platform,
        ..Arguments::default()
    };
    let checked = file.check(&arguments);
    checked.map_err(|mistake| WrongRecipe(format!("{}:{mistake}", shown.display())))?;
    let instructions: usize = file.stages.iter().map(|stage| stage.instructions.len() + 1).sum();
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let (stages, instructions) =
        (count(file.stages.len(), "stage"), count(instructions, "instruction"));
    Ok(format!("{}: {stages}, {instructions}\n", shown.display()))
}

/// A Containerfile that was read.
#[derive(Debug)]
struct ReadText {
    file: Containerfile,
    text: String,
    /// Path for messages.
    shown: PathBuf,
    /// When it was modified, in seconds since 1970; 0 for standard input.
    time: i64,
}

impl ReadText {
    fn read(path: &Path) -> Result<Self> {
        let is_stdin = path.as_os_str() == STDIN;
        let shown = if is_stdin { PathBuf::from("standard input") } else { path.into() };
        let reading = || format!("read {}", shown.display());
        let mut time = 0;
        let text = match is_stdin {
            true => text_of(std::io::stdin()),
            false => File::open(path).map_err(Into::into).and_then(|file| {
                time = file.metadata()?.mtime();
                text_of(file)
            }),
        };
        let text = text.with_context(reading)?;
        let name = shown.display();
        let parsed = containerfile::parse(&text);
        let file = parsed.map_err(|mistake| WrongRecipe(format!("{name}:{mistake}")))?;
        for note in &file.notes {
            log::info!("{name}:{note}");
        }
        Ok(Self { file, text, shown, time })
    }
}

impl Ready<'_> {
    /// Names the image with its config, and how it was made.
    pub(in crate::image_command) fn key(&self) -> Key {
        let history: Vec<_> = self.stage.history.iter().map(|(text, _)| text).collect();
        let config = format!("{:?} {:?} {history:?}", self.stage.config, self.stage.platform);
        self.stage.key.then(&[b"image", config.as_bytes()])
    }

    /// The store of layers and outputs that builds keep.
    pub(in crate::image_command) fn store(&self) -> &Store {
        self.stages.settings.store
    }

    /// Prints the steps of all stages that are needed.
    ///
    /// # Errors
    /// Those of planning a stage.
    pub(in crate::image_command) fn tell_steps(&self) -> Result<()> {
        let mut text = String::new();
        for index in self.stages.needed(self.target)? {
            let stage = self.stages.stage(index)?;
            let missing = run::missing(&stage.steps, &self.stages.reusable());
            for (number, step) in stage.steps.iter().enumerate().skip(stage.first_own) {
                let what = match &step.work {
                    Work::Command(_) if missing.contains(&number) => "runs",
                    Work::Command(_) => "kept",
                    _ => "needs no machine",
                };
                let _ = writeln!(text, "{}: {} ({what})", step.number, step.title); // a String takes all
            }
        }
        tell::result(text)
    }

    /// Builds the image.
    ///
    /// # Errors
    /// A step fails; a file cannot be read or written.
    pub(in crate::image_command) fn build(
        self,
        wanted: WantedLayers,
    ) -> Result<(ReadSource, BuiltLayers)> {
        let Self { stages, target, stage } = self;
        let built = match wanted {
            WantedLayers::Each => stages.tree_and_layers(target),
            WantedLayers::Squashed | WantedLayers::None => {
                stages.tree(target).map(|tree| (tree, Layers::new()))
            }
        };
        let (tree, layers) = stages.told(built)?;
        let store = stages.settings.store.clone();
        stages.check_unchanged(target)?;
        drop(stages);
        let mut made = match wanted {
            WantedLayers::Each => instructions(&stage.history, layers),
            WantedLayers::Squashed | WantedLayers::None => Vec::new(),
        };
        if wanted == WantedLayers::Each {
            made.splice(0..0, of_plain_base(&mut lock(&stage.base), &store)?);
        }
        let before = match wanted {
            WantedLayers::None => None,
            WantedLayers::Each => Some(tree.clone()),
            WantedLayers::Squashed => {
                let mut base = lock(&stage.base);
                base.image().is_some().then(|| base.tree(&store)).transpose()?
            }
        };
        let stage = Arc::into_inner(stage).context("a stage is still in use")?;
        let base = Arc::into_inner(stage.base).context("a base is still in use")?;
        let base = Mutex::into_inner(base).unwrap_or_else(PoisonError::into_inner);
        let built = BuiltImage {
            base: OpenBase::into_image(base),
            process: to_process(&stage.config),
            platform: stage.platform,
        };
        let layers = BuiltLayers { before, instructions: made, author: stage.config.author };
        let kind = SourceKind::Built(Box::new(built));
        Ok((ReadSource { tree, kind }, layers))
    }
}

/// The layer of a base that is no OCI image, and so has none.
fn of_plain_base(base: &mut OpenBase, store: &Store) -> Result<Option<OwnedStep>> {
    if base.key.is_none() || base.image().is_some() {
        return Ok(None);
    }
    let layer = oci::write::layer(&Tree::new(root_meta()), &base.tree(store)?)?;
    Ok(Some(OwnedStep { created_by: "FROM".to_owned(), layer }))
}

/// The instructions with their layers.
fn instructions(history: &[(String, Option<usize>)], mut layers: Layers) -> Vec<OwnedStep> {
    let mut layer_of = |step: Option<usize>| {
        let at = layers.iter().position(|(index, _)| Some(*index) == step)?;
        layers.swap_remove(at).1
    };
    let one = |(created_by, step): &(String, Option<usize>)| OwnedStep {
        created_by: created_by.clone(),
        layer: layer_of(*step),
    };
    history.iter().map(one).collect()
}
