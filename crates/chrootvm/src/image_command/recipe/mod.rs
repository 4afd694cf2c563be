//! `chrootvm image build RECIPE`: an image from a file of steps.
//!
//! | Module | Content |
//! |---|---|
//! | `package`, `inputs` | a recipe, and the files of the host that belong to it |
//! | `plan` | recipes become one list of steps, each with its `key` |
//! | `base`, `lockfile` | the tree that the steps start with, and which image a name means |
//! | `store` | what is kept between builds |
//! | `build` | runs the list, with `edits` of the tree and the `machine` for commands |
//! | `request`, `inputs_disk`, `caches` | what a command sees |
//! | `failure`, `explain` | why a step has failed, or runs |
//! | `outputs`, `workload`, `manifest` | the files that are made |
//! | `packed` | a recipe and its files in one archive |
//! | `check` | checks a recipe without building it |

mod base;
mod build;
mod caches;
mod check;
mod edits;
mod explain;
mod failure;
mod fetch;
mod inputs;
mod inputs_disk;
mod key;
mod lockfile;
mod machine;
mod manifest;
mod options;
mod outputs;
mod package;
mod packed;
mod plan;
mod request;
mod store;
mod twice;
mod workload;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};
use archive::source_date_epoch;
use files::tell;
use image::format::Format;
use image::tree::Tree;
use oci::name::platform::Platform;
use recipe::Network;
use step::request::Access;

use self::base::{OpenBase, Resolved};
use self::build::{Builder, OnFailure, Reuse};
use self::edits::Editor;
use self::explain::Record;
use self::failure::{EXIT_RECIPE, Failed};
use self::fetch::Fetcher;
use self::key::Key;
use self::lockfile::{LockFile, Policy};
use self::machine::MachineSettings;
use self::outputs::Contents;
use self::package::{Package, WrongRecipe};
use self::packed::RecipeFile;
use self::plan::{Planned, Work};
use self::request::{Surroundings, VolumeOf};
use self::store::Store;
use crate::pull::PullArguments;

pub(super) use check::{check, pack};
pub(super) use options::RecipeOptions;
pub use packed::guarded;
pub(super) use packed::unpack::unpack;
pub use store::kept_steps;

/// Bytes of a MiB.
const MEBIBYTE: u64 = 1 << 20;

/// The command line of a build.
#[derive(Debug)]
pub(super) struct BuildRecipe<'a> {
    pub(super) file: &'a Path,
    pub(super) output: Option<&'a Path>,
    pub(super) options: &'a RecipeOptions,
    pub(super) pull: &'a PullArguments,
    pub(super) init: Option<PathBuf>,
}

/// A recipe that is ready to be built.
struct Ready {
    package: Rc<Package>,
    steps: Vec<Planned>,
    base: OpenBase,
    resolved: Option<Resolved>,
    lock: LockFile,
    store: Store,
    outputs: Vec<outputs::Planned>,
}

/// Whether `source` names a recipe: a file whose name ends in `.toml`, or the archive of a package.
pub(super) fn is_recipe(source: &Path) -> bool {
    source.extension().is_some_and(|ending| ending == "toml") || packed::is_package(source)
}

/// Turns the failures that have an exit status of their own into one.
pub(super) fn exit_status(result: Result<()>) -> Result<ExitCode> {
    let Err(error) = result else { return Ok(ExitCode::SUCCESS) };
    let failed = error.downcast_ref().map(Failed::exit_status);
    let wrong = error.downcast_ref::<WrongRecipe>().map(|_| EXIT_RECIPE);
    match failed.or(wrong) {
        Some(status) => {
            log::error!("{error:#}");
            Ok(ExitCode::from(status))
        }
        None => Err(error),
    }
}

/// The error about a mistake in a recipe, or in what should become one.
pub(super) fn wrong(message: String) -> anyhow::Error {
    WrongRecipe(message).into()
}

impl BuildRecipe<'_> {
    /// Builds the recipe.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let recipe = match RecipeFile::open(self.file) {
            Ok(recipe) => recipe,
            Err(error) => return exit_status(Err(error)),
        };
        match self.options.check {
            true => twice::build_twice(self, &recipe),
            false => exit_status(self.build(&recipe, self.output, &self.usual())),
        }
    }

    /// How the options say that steps run.
    fn usual(&self) -> Manner {
        let from = self.options.from_step.and_then(|number| usize::try_from(number).ok());
        Manner {
            reuse: match (self.options.no_cache, from) {
                (true, _) => Reuse::Before(0),
                (false, Some(number)) => Reuse::Before(number - 1),
                (false, None) => Reuse::All,
            },
            machine_words: self.options.machine_words(),
        }
    }

    /// Builds the recipe; outputs go to `output`, as `-o` says.
    fn build(&self, recipe: &RecipeFile<'_>, output: Option<&Path>, manner: &Manner) -> Result<()> {
        let Ready { package, steps, mut base, resolved, lock, store, outputs } =
            self.prepare(recipe, output)?;
        let record = Record::of(base.key.as_ref(), &steps);
        let missing = build::missing(&steps, &store, manner.reuse);
        if self.options.dry_run || self.options.explain {
            let last = Record::last(&package, &store);
            let forced = match manner.reuse {
                Reuse::All => None,
                Reuse::Before(index) => Some(index),
            };
            let reasons = explain::reasons(&record, last.as_ref(), &steps, &missing, forced);
            tell_steps(&steps, &reasons, &outputs, self.options.dry_run)?;
        }
        if self.options.dry_run {
            return Ok(());
        }
        let given_time = given_time(&package)?;
        let process = workload::process(base.process(), &package.recipe.run);
        let mut contents =
            Contents { package: &package, process, image: None, time: 0, init: self.init.clone() };
        let last = steps.last().map(|step| step.key).or(base.key);
        let last = last.unwrap_or_else(|| Key::first(&[]));
        let mut left = Vec::new();
        for output in &outputs {
            let key = output.key(&last, given_time, &contents)?;
            let is_copied = match (&key, manner.reuse) {
                (Some(key), Reuse::All) => output.copy(key, &store)?,
                _ => false,
            };
            if !is_copied {
                left.push((output, key));
            }
        }
        if !left.is_empty() || package.recipe.manifest.is_some() {
            contents.time = match given_time {
                Some(time) => time,
                None => newest(&base.tree(&store)?),
            };
            let tree = self.tree(&steps, &mut base, &store, contents.time, manner)?;
            if left.iter().any(|(output, _)| output.format.0 == Format::OciArchive) {
                let before = base.tree(&store)?;
                contents.image = base.image().map(|image| (image, before));
            }
            for (output, key) in left {
                output.write(&tree, &contents)?;
                if let Some(key) = key {
                    output.keep(&key, &store)?;
                }
            }
            if let Some(path) = &package.recipe.manifest {
                let path = manifest::place(&package, path, output);
                let kernels = manifest::kernels(&tree);
                manifest::write(&path, &contents, base.key.as_ref(), &kernels, &outputs, &store)?;
            }
        }
        record.keep(&package, &store);
        lock.finish(&package, resolved.as_ref())
    }

    /// Reads the recipe and everything that it names, and checks it.
    fn prepare(&self, recipe: &RecipeFile<'_>, output: Option<&Path>) -> Result<Ready> {
        let package = recipe.package()?;
        let policy = match (self.options.locked, &self.options.update) {
            (true, _) => Policy::Locked,
            (false, Some(name)) => Policy::Update(name.clone()),
            (false, None) => Policy::Usual,
        };
        let lock = LockFile::open(&package, policy)?;
        let chain = plan::chain(package)?;
        let lowest = chain.first().context("there is one recipe at least")?;
        let store = Store::of_user();
        let pin = |name: &str, platform: &str| lock.pin(name, platform);
        let opened = OpenBase::open(lowest, self.pull, &store, &pin);
        let (base, resolved) = opened.with_context(|| format!("{}: [from]", lowest.file.display()))?;
        let steps = plan::plan(&chain, base.key, &Platform::host().to_string())?;
        let package = chain.last().context("there is one recipe at least")?;
        let package = Rc::clone(package);
        for each in &chain {
            lock.check(each)?;
        }
        let outputs = outputs::plan(&package, output)?;
        Ok(Ready { package, steps, base, resolved, lock, store, outputs })
    }

    /// The tree after all steps.
    fn tree(
        &self,
        steps: &[Planned],
        base: &mut OpenBase,
        store: &Store,
        time: u32,
        manner: &Manner,
    ) -> Result<Tree> {
        let fetcher = Fetcher::new(self.pull);
        let env = base.process().map(|process| process.env.clone()).unwrap_or_default();
        let volumes = volumes(steps);
        let mut builder = Builder {
            store,
            steps,
            base,
            editor: Editor { fetcher: &fetcher, time: time.into() },
            reuse: manner.reuse,
            on_failure: match self.options.shell_on_error {
                true => OnFailure::Shell,
                false => OnFailure::End,
            },
            machine: machine_settings(steps, &volumes, &manner.machine_words),
            surroundings: Surroundings { env, time: time.into(), volumes },
        };
        builder.run()
    }
}

/// How steps run.
#[derive(Clone, Debug)]
struct Manner {
    reuse: Reuse,
    /// Words for the `chrootvm run` of the machine.
    machine_words: Vec<OsString>,
}

/// Prints the steps.
fn tell_steps(
    steps: &[Planned],
    reasons: &[Option<String>],
    outputs: &[outputs::Planned],
    with_outputs: bool,
) -> Result<()> {
    let mut text = String::new();
    for (number, (step, reason)) in steps.iter().zip(reasons).enumerate() {
        let state = match (reason, &step.work) {
            (Some(reason), _) => format!("runs: {reason}"),
            (None, Work::Command(_)) => "kept".to_owned(),
            (None, _) => "needs no machine".to_owned(),
        };
        text.push_str(&format!("{:>3}  {} ({state})\n", number + 1, step.title));
    }
    for output in outputs.iter().filter(|_| with_outputs) {
        text.push_str(&format!("  -> {} ({})\n", output.path.display(), output.format.0));
    }
    tell::result(text)
}

/// The time that the recipe or `SOURCE_DATE_EPOCH` gives.
fn given_time(package: &Package) -> Result<Option<u32>> {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
    match (package.recipe.build.time, epoch) {
        (Some(time), _) => Ok(Some(time)),
        (None, Some(epoch)) => source_date_epoch(Some(&epoch)).map(Some),
        (None, None) => Ok(None),
    }
}

/// The newest time of a file; 0 for a tree whose files have none.
fn newest(tree: &Tree) -> u32 {
    let times = tree.nodes().map(|node| node.meta.mtime);
    times.max().and_then(|time| u32::try_from(time).ok()).unwrap_or(0)
}

/// The volumes of all packages, in the order in which the machine has them.
fn volumes(steps: &[Planned]) -> Vec<VolumeOf> {
    let mut found: Vec<VolumeOf> = Vec::new();
    for step in steps {
        let package = &step.package;
        if found.iter().any(|volume| Rc::ptr_eq(&volume.package, package)) {
            continue;
        }
        for (path, volume) in &package.recipe.build.volumes {
            found.push(VolumeOf {
                package: Rc::clone(package),
                host: package.of_host(&volume.path),
                path: path.clone(),
                access: if volume.writable { Access::ReadWrite } else { Access::ReadOnly },
            });
        }
    }
    found
}

/// The machine that all steps share: it has as much as the recipe that asks for most.
fn machine_settings(steps: &[Planned], volumes: &[VolumeOf], words: &[OsString]) -> MachineSettings {
    let builds = || steps.iter().map(|step| &step.package.recipe.build);
    MachineSettings {
        disk: builds().map(|build| build.disk).max().unwrap_or_default(),
        memory: builds().filter_map(|build| build.memory).max().map(|bytes| bytes / MEBIBYTE),
        cpus: builds().filter_map(|build| build.cpus).max(),
        network: Network::None,
        volumes: volumes.iter().map(|volume| (volume.host.clone(), volume.access)).collect(),
        words: words.to_vec(),
    }
}
