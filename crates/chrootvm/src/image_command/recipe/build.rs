//! A build from the command line to the outputs: what is read, run, written and kept, in this order.

use std::cell::RefCell;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use archive::source_date_epoch;
use files::tell;
use image::format::Format;
use image::tree::Tree;
use oci::name::platform::Platform;

use super::explain::{self, Record};
use super::kept::key::Key;
use super::kept::store::Store;
use super::options::RecipeOptions;
use super::package::Package;
use super::package::lockfile::{LockFile, Policy, Resolved};
use super::package::plan;
use super::package::planned::{Planned, Work};
use super::packed::RecipeFile;
use super::results::outputs::{self, Contents};
use super::results::{manifest, workload};
use super::run::halt::{self, Halt};
use super::run::machine::MachineSettings;
use super::run::request::{self, Surroundings};
use super::run::{self, Builder, Keeping, Manner, OnFailure, Reusable, Reuse};
use super::tree::base::OpenBase;
use super::tree::edits::{Editor, check_programs};
use super::tree::fetch::Fetcher;
use super::{exit_status, twice};
use crate::pull::PullArguments;

/// The command line of a build.
#[derive(Debug)]
pub(in crate::image_command) struct BuildRecipe<'a> {
    pub(in crate::image_command) file: &'a Path,
    pub(in crate::image_command) output: Option<&'a Path>,
    pub(in crate::image_command) options: &'a RecipeOptions,
    pub(in crate::image_command) pull: &'a PullArguments,
    pub(in crate::image_command) init: Option<PathBuf>,
}

/// A recipe that is ready to be built.
struct Ready {
    /// The recipe and those that it builds on, the lowest first.
    chain: Vec<Arc<Package>>,
    package: Arc<Package>,
    /// Time that the recipe or `SOURCE_DATE_EPOCH` gives.
    time: Option<u32>,
    steps: Vec<Planned>,
    base: OpenBase,
    resolved: Option<Resolved>,
    lock: LockFile,
    store: Store,
    outputs: Vec<outputs::Planned>,
}

impl BuildRecipe<'_> {
    /// Builds the recipe.
    pub(in crate::image_command) fn run(&self) -> Result<ExitCode> {
        let recipe = match RecipeFile::open(self.file) {
            Ok(recipe) => recipe,
            Err(error) => return exit_status(Err(error)),
        };
        // A name of -o says the format.
        let name = self.output.filter(|output| !output.is_dir()).and_then(Path::file_name);
        let build = |dir: &Path, manner: &Manner| {
            let output = name.map_or_else(|| dir.to_path_buf(), |name| dir.join(name));
            self.build(&recipe, Some(&output), manner)
        };
        match self.options.shown.check {
            true => twice::build_twice(&self.usual(), &build),
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
            keeping: Keeping::Everything,
        }
    }

    /// Builds the recipe; outputs go to `output`, as `-o` says.
    fn build(&self, recipe: &RecipeFile<'_>, output: Option<&Path>, manner: &Manner) -> Result<()> {
        let Ready { chain, package, time: given_time, steps, base, resolved, lock, store, outputs } =
            self.prepare(recipe, output, manner.keeping)?;
        let record = Record::of(base.key.as_ref(), &steps);
        let built = Mutex::default();
        let reusable = Reusable { store: &store, reuse: manner.reuse, built: &built };
        let missing = run::missing(&steps, &reusable);
        if self.options.shown.dry_run || self.options.shown.explain {
            let last = Record::last(&package.identity(), &store);
            let forced = match manner.reuse {
                Reuse::All => None,
                Reuse::Before(index) => Some(index),
            };
            let reasons = explain::reasons(&record, last.as_ref(), &steps, &missing, forced);
            tell_steps(&steps, &reasons, &outputs, self.options.shown.dry_run)?;
        }
        if self.options.shown.dry_run {
            return Ok(());
        }
        let key = base.key;
        let process = workload::process(base.process(), &package.recipe.run);
        let mut contents =
            Contents { package: &package, process, image: None, time: 0, init: self.init.clone() };
        let last = steps.last().map(|step| step.key).or(key);
        let last = last.unwrap_or_else(|| Key::first(&[]));
        let mut left = Vec::new();
        for output in &outputs {
            let key = output.key(&last, given_time, &contents)?;
            let is_copied = match (&key, manner.reuse) {
                (Some(key), Reuse::All) => output.kept(*key).copy(&store)?,
                _ => false,
            };
            if !is_copied {
                left.push((output, key));
            }
        }
        if !left.is_empty() || package.recipe.manifest.is_some() {
            let base = Mutex::new(base);
            contents.time = match given_time {
                Some(time) => time,
                None => newest(&halt::lock(&base).tree(&store)?),
            };
            let tree = self.tree(&steps, &base, reusable, contents.time, manner)?;
            let mut base = base.into_inner().unwrap_or_else(PoisonError::into_inner);
            if left.iter().any(|(output, _)| output.format.0 == Format::OciArchive) {
                let before = base.tree(&store)?;
                contents.image = base.image().map(|image| (image, before));
            }
            for (output, _) in &left {
                output.write(&tree, &contents)?;
            }
            steps.iter().try_for_each(Planned::check_unchanged)?;
            for (output, key) in left {
                if let Some(key) = key {
                    output.kept(key).keep(&store);
                }
            }
            if let Some(path) = &package.recipe.manifest {
                let path = manifest::place(&package, path, output);
                let kernels = manifest::kernels(&tree);
                manifest::write(&path, &contents, key.as_ref(), &kernels, &outputs, &store)?;
            }
        }
        if manner.keeping == Keeping::Nothing {
            return Ok(());
        }
        record.keep(&package.identity(), &store);
        lock.finish(&chain, resolved.as_ref())
    }

    /// Reads the recipe and everything that it names, and checks it.
    fn prepare(
        &self,
        recipe: &RecipeFile<'_>,
        output: Option<&Path>,
        keeping: Keeping,
    ) -> Result<Ready> {
        let package = recipe.package()?;
        let policy = match (self.options.locked, &self.options.update) {
            (true, _) => Policy::Locked,
            (false, Some(name)) => Policy::Update(name.clone()),
            (false, None) => Policy::Usual,
        };
        let lock = LockFile::open(&package, policy)?;
        let chain = plan::chain(package)?;
        let lowest = chain.first().context("there is one recipe at least")?;
        let store = match keeping {
            Keeping::Everything => Store::of_user(),
            Keeping::Nothing => Store::unkept(),
        };
        let pin = |name: &str, platform: &str| lock.pin(name, platform);
        let opened = OpenBase::open(lowest, self.pull, &store, &pin);
        let (base, resolved) =
            opened.with_context(|| format!("{}: [from]", lowest.file.display()))?;
        let package = Arc::clone(chain.last().context("there is one recipe at least")?);
        let time = given_time(&package)?;
        let platform = Platform::host().to_string();
        let steps = plan::plan(&chain, base.key, &plan::Surroundings { platform, time })?;
        for each in &chain {
            lock.check(each)?;
        }
        if let Some(number) = self.options.from_step {
            let last = steps.len();
            ensure!(
                usize::try_from(number)? <= last,
                "--from-step {number}: the last step is {last}"
            );
        }
        let outputs = outputs::plan(&package, output)?;
        Ok(Ready { chain, package, time, steps, base, resolved, lock, store, outputs })
    }

    /// The tree after all steps.
    fn tree(
        &self,
        steps: &[Planned],
        base: &Mutex<OpenBase>,
        reusable: Reusable<'_>,
        time: u32,
        manner: &Manner,
    ) -> Result<Tree> {
        let fetcher = Fetcher::new(self.pull);
        let mut env = vec![
            "LANG=C.UTF-8".to_owned(),
            "TZ=UTC".to_owned(),
            format!("SOURCE_DATE_EPOCH={time}"),
        ];
        env.extend(
            halt::lock(base).process().map(|process| process.env.clone()).unwrap_or_default(),
        );
        let volumes = request::volumes(steps);
        let mut builder = Builder {
            reusable,
            steps,
            first_told: 0,
            prefix: "",
            base,
            editor: Editor {
                fetcher: &fetcher,
                time: time.into(),
                put: RefCell::default(),
                select: &|_| bail!("a recipe has only one tree"),
            },
            halt: &Halt::default(),
            on_failure: match self.options.shell_on_error {
                true => OnFailure::Shell,
                false => OnFailure::End,
            },
            machine: MachineSettings::of(steps, &volumes, &manner.machine_words),
            surroundings: Surroundings { env, volumes },
        };
        let tree = builder.run(None)?;
        check_programs(&tree, &builder.editor.put.borrow())?;
        Ok(tree)
    }
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
        let _ = writeln!(text, "{:>3}  {} ({state})", number + 1, step.title); // a String takes all
    }
    for output in outputs.iter().filter(|_| with_outputs) {
        let _ = writeln!(text, "  -> {} ({})", output.path.display(), output.format.0); // a String takes all
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
pub(in crate::image_command) fn newest(tree: &Tree) -> u32 {
    let times = tree.nodes().map(|node| node.meta.mtime);
    times.max().map_or(0, |time| u32::try_from(time.max(0)).unwrap_or(u32::MAX))
}
