//! The stages of a Containerfile. A stage is planned when somebody asks for its key, and built when
//! somebody needs its files; stages that nobody needs are neither.
//!
//! A stage that builds on another one has that one's steps before its own, so the two share layers.
//! Stages that wait for nothing but room are built at the same time, each in a machine of its own.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result};
use files::tell;
use image::tree::Tree;
use oci::name::platform::Platform;
use recipe::containerfile::{Arguments, Config, Containerfile, From, FromBase};

use super::super::explain::{self, Record};
use super::super::kept::key::Key;
use super::super::kept::store::Store;
use super::super::package::inputs::Input;
use super::super::package::planned::{Planned, Selection, TreeName};
use super::super::package::{Package, WrongRecipe};
use super::super::run::halt::{Halt, lock};
use super::super::run::machine::MachineSettings;
use super::super::run::request::{self, Surroundings};
use super::super::run::{self, Builder, Manner, OnFailure, Reusable, Reuse};
use super::super::tree::edits::{Editor, check_programs};
use super::super::tree::fetch::Fetcher;
use super::context::{Directory, select_from};
use super::failed::StageFailed;
use super::images::{Images, SharedBase};
use super::room::Room;

/// Most threads that build stages for one other stage.
const WORKERS: usize = 8;

/// A stage whose steps are known.
#[derive(Debug)]
pub(super) struct Stage {
    /// The steps of the stages below, and then its own.
    pub(super) steps: Vec<Planned>,
    /// Index of the first step of its own.
    pub(super) first_own: usize,
    /// The image at the bottom.
    pub(super) base: SharedBase,
    /// Config behind the last instruction.
    pub(super) config: Config,
    /// All instructions, from the bottom on: the text, and the index of the step, if it is one.
    pub(super) history: Vec<(String, Option<usize>)>,
    /// Key of the tree after the last step.
    pub(super) key: Key,
    /// Platform of the image.
    pub(super) platform: Platform,
}

impl Stage {
    /// The steps of the stage itself.
    pub(super) fn own_steps(&self) -> &[Planned] {
        self.steps.get(self.first_own..).unwrap_or_default()
    }
}

/// What was planned and built of a stage. The error of one that failed is told elsewhere.
#[derive(Debug, Default)]
struct Row {
    stage: OnceLock<Result<Arc<Stage>, StageFailed>>,
    tree: OnceLock<Result<Tree, StageFailed>>,
}

/// Whether machines may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The stages are built.
    Build,
    /// The stages are built, and it is told why steps run.
    Explain,
    /// The stages are only shown. What depends on a stage that would have to run counts as changed.
    Show,
}

/// What the stages of a Containerfile are built with.
pub(super) struct Settings<'a> {
    pub(super) file: &'a Containerfile,
    pub(super) arguments: Arguments,
    pub(super) package: Arc<Package>,
    pub(super) context: Directory,
    pub(super) images: Images<'a>,
    pub(super) store: &'a Store,
    pub(super) manner: &'a Manner,
    pub(super) on_failure: OnFailure,
    pub(super) purpose: Purpose,
    pub(super) fetcher: Fetcher,
    /// Time of files that have none, in seconds since 1970.
    pub(super) time: i64,
    /// Platform of the image, unless a base says another one.
    pub(super) platform: Platform,
}

/// All stages of a Containerfile.
pub(super) struct Stages<'a> {
    pub(super) settings: Settings<'a>,
    pub(super) froms: Vec<From>,
    rows: Vec<Row>,
    room: Room,
    pub(super) halt: Halt,
    built: Mutex<HashSet<Key>>,
    first_error: Mutex<Option<anyhow::Error>>,
}

/// The layers of an image, by the indexes of its steps.
pub(super) type Layers = Vec<(usize, Option<Tree>)>;

impl<'a> Stages<'a> {
    /// The stages of a file.
    ///
    /// # Errors
    /// [`WrongRecipe`]: a FROM that has no meaning with these arguments.
    pub(super) fn new(settings: Settings<'a>) -> Result<Self> {
        let froms = settings.file.froms(&settings.arguments);
        let froms = froms.map_err(|mistake| wrong(&settings.package, &mistake))?;
        let memory = settings.package.recipe.build.memory.map(|bytes| bytes >> 20);
        Ok(Self {
            settings,
            rows: froms.iter().map(|_| Row::default()).collect(),
            froms,
            room: Room::of_host(memory),
            halt: Halt::default(),
            built: Mutex::default(),
            first_error: Mutex::default(),
        })
    }

    /// The stage with this index.
    ///
    /// # Errors
    /// What the base of the stage, its text or the stages before it say.
    pub(super) fn stage(&self, index: usize) -> Result<Arc<Stage>> {
        let row = self.row(index)?;
        let stage = row.stage.get_or_init(|| self.note(self.plan(index).map(Arc::new)));
        stage.clone().map_err(Into::into)
    }

    /// The tree of the stage with this index, which is built if it must be.
    ///
    /// # Errors
    /// A step fails; a file cannot be read or written.
    pub(super) fn tree(&self, index: usize) -> Result<Tree> {
        let row = self.row(index)?;
        let tree = row.tree.get_or_init(|| self.note(self.build(index, None)));
        tree.clone().map_err(Into::into)
    }

    /// Likewise, with the layer of each step: `None` for a step that has changed nothing.
    ///
    /// # Errors
    /// Those of [`Self::tree`].
    pub(super) fn tree_and_layers(&self, index: usize) -> Result<(Tree, Layers)> {
        let mut layers = Layers::new();
        let mut observe = |step: usize, before: &Tree, after: &Tree| {
            layers.push((step, oci::write::layer(before, after)?));
            Ok(())
        };
        let tree = self.note(self.build(index, Some(&mut observe)))?;
        Ok((tree, layers))
    }

    /// The stages that `index` needs, itself included, in the order of the text.
    ///
    /// # Errors
    /// Those of [`Self::stage`].
    pub(super) fn needed(&self, index: usize) -> Result<BTreeSet<usize>> {
        let mut found = BTreeSet::new();
        let mut pending = vec![index];
        while let Some(index) = pending.pop() {
            if found.insert(index) {
                pending.extend(self.base_stage(index));
                pending.extend(stages_of(&self.stage(index)?.steps));
            }
        }
        Ok(found)
    }

    /// Beginning of the numbers of a stage's steps, for people.
    pub(super) fn label(&self, index: usize) -> String {
        if self.rows.len() > 1 { self.name(index) } else { "step".to_owned() }
    }

    /// The name of a stage for people.
    pub(super) fn name(&self, index: usize) -> String {
        let name = self.settings.file.stages.get(index).and_then(|stage| stage.name.clone());
        name.unwrap_or_else(|| format!("stage-{index}"))
    }

    /// The files of another tree, whose stage is built if it must be.
    ///
    /// # Errors
    /// Those of [`Self::tree`]; a path that the tree does not have.
    pub(super) fn select(&self, selection: &Selection) -> Result<Vec<Input>> {
        let (tree, name) = match &selection.tree {
            TreeName::Stage(index) => (self.tree(*index)?, self.name(*index)),
            TreeName::Image(name) => (self.settings.images.tree(name)?, name.clone()),
        };
        let selected = select_from(&tree, &selection.pattern, &selection.exclude);
        selected.map_err(|error| WrongRecipe(format!("{name}: {error:#}")).into())
    }

    /// Fails if a file of the host has changed since the steps of a stage were planned.
    ///
    /// # Errors
    /// A file has changed, or cannot be read any more.
    pub(super) fn check_unchanged(&self, index: usize) -> Result<()> {
        for index in self.needed(index)? {
            let stage = self.stage(index)?;
            stage.own_steps().iter().try_for_each(Planned::check_unchanged)?;
        }
        Ok(())
    }

    /// The result, if it is one; else its error is the error of the build, unless another came
    /// first, and all machines end.
    fn note<T>(&self, result: Result<T>) -> Result<T, StageFailed> {
        result.map_err(|error| {
            if !error.is::<StageFailed>() {
                lock(&self.first_error).get_or_insert(error);
            }
            self.halt.halt();
            StageFailed
        })
    }

    /// The result of the whole build: in place of [`StageFailed`], the error that came first. All others
    /// follow from it, for it has ended their machines.
    pub(super) fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error.is::<StageFailed>() {
            true => lock(&self.first_error).take().unwrap_or(error),
            false => error,
        })
    }

    fn row(&self, index: usize) -> Result<&Row> {
        self.rows.get(index).context("there is no such stage")
    }

    /// The stage that is the base of another one.
    fn base_stage(&self, index: usize) -> Option<usize> {
        match self.froms.get(index)?.base {
            FromBase::Stage(base) => Some(base),
            FromBase::Scratch | FromBase::Image(_) => None,
        }
    }

    pub(super) fn reusable(&self) -> Reusable<'_> {
        Reusable {
            store: self.settings.store,
            reuse: self.settings.manner.reuse,
            built: &self.built,
        }
    }

    /// Builds stages; those that are left over at the same time.
    pub(super) fn build_all(&self, stages: &BTreeSet<usize>) -> Result<()> {
        let is_left = |index: &&usize| self.row(**index).is_ok_and(|row| row.tree.get().is_none());
        let pending: Vec<usize> = stages.iter().filter(is_left).copied().collect();
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(index) = pending.get(next.fetch_add(1, Ordering::SeqCst)) {
                self.tree(*index)?;
            }
            Ok(())
        };
        if pending.len() < 2 {
            return work();
        }
        std::thread::scope(|scope| {
            let workers = 0..pending.len().min(WORKERS);
            let workers: Vec<_> = workers.map(|_| scope.spawn(work)).collect();
            let results = workers.into_iter().map(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            // All workers are waited for, even if the first one has failed.
            results.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Builds a stage, and what it needs before.
    fn build(&self, index: usize, observe: Option<&mut run::Observe<'_>>) -> Result<Tree> {
        self.halt.check()?;
        let stage = self.stage(index)?;
        let mut needed = stages_of(&stage.steps);
        if let Some(below) = self.base_stage(index) {
            let steps = &self.stage(below)?.steps;
            if !run::missing(steps, &self.reusable()).is_empty() {
                needed.insert(below);
            }
        }
        self.build_all(&needed)?;
        let missing = run::missing(&stage.steps, &self.reusable());
        let record = Record::of(lock(&stage.base).key.as_ref(), &stage.steps);
        if self.settings.purpose == Purpose::Explain {
            self.explain(index, &stage, &record, &missing)?;
        }
        let is_run = !missing.is_empty();
        let to_run = missing.iter().filter_map(|index| stage.steps.get(*index));
        to_run.clone().try_for_each(request::check_secrets)?;
        let _permit = is_run.then(|| self.room.enter());
        let name = format!("{}: ", self.name(index));
        let mut builder = Builder {
            reusable: self.reusable(),
            steps: &stage.steps,
            first_told: stage.first_own,
            prefix: if self.rows.len() > 1 { &name } else { "" },
            base: &stage.base,
            editor: Editor {
                fetcher: &self.settings.fetcher,
                time: self.settings.time,
                put: RefCell::default(),
                select: &|selection| self.select(selection),
            },
            on_failure: self.settings.on_failure,
            halt: &self.halt,
            machine: MachineSettings::of(&stage.steps, &[], &self.settings.manner.machine_words),
            surroundings: Surroundings::default(),
        };
        let tree = builder.run(observe)?;
        check_programs(&tree, &builder.editor.put.borrow())?;
        record.keep(&self.identity(index), self.settings.store);
        Ok(tree)
    }

    /// Prints why steps of a stage run.
    fn explain(
        &self,
        index: usize,
        stage: &Stage,
        record: &Record,
        missing: &[usize],
    ) -> Result<()> {
        let last = Record::last(&self.identity(index), self.settings.store);
        let forced = match self.settings.manner.reuse {
            Reuse::All => None,
            Reuse::Before(first) => Some(first),
        };
        let reasons = explain::reasons(record, last.as_ref(), &stage.steps, missing, forced);
        let steps = stage.steps.iter().zip(reasons).skip(stage.first_own);
        for (step, reason) in steps {
            if let Some(reason) = reason {
                let (number, title) = (&step.number, &step.title);
                tell::result(format_args!("{number}: {title} (runs: {reason})\n"))?;
            }
        }
        Ok(())
    }

    /// Names a stage in what is kept of the last build.
    fn identity(&self, index: usize) -> PathBuf {
        self.settings.package.identity().join(self.name(index))
    }
}

/// The stages whose files steps use.
fn stages_of(steps: &[Planned]) -> BTreeSet<usize> {
    let of_step = |step: &Planned| {
        let trees = step.selections().into_iter().filter_map(|selection| match selection.tree {
            TreeName::Stage(index) => Some(index),
            TreeName::Image(_) => None,
        });
        trees.collect::<Vec<_>>()
    };
    steps.iter().flat_map(of_step).collect()
}

/// A mistake in the Containerfile.
pub(super) fn wrong(package: &Package, mistake: &recipe::Mistake) -> anyhow::Error {
    WrongRecipe(format!("{}: {}", package.place(mistake.position), mistake.message)).into()
}
