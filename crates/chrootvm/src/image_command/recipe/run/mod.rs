//! Running the steps of a list: each changes the tree, or takes the layer that is kept of it.
//!
//! The machine starts with the first command whose layer is missing, and all commands after it run
//! in it. It sees the tree as a stack of layers: the base, the layers that are kept, and edits in
//! between as layers of their own. So nothing is written twice, and one machine serves all steps.

mod caches;
pub(super) mod failure;
pub(super) mod halt;
pub(super) mod inputs_disk;
mod live;
pub(super) mod machine;
pub(super) mod request;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use image::edit::overlay::{self, RootMeta};
use image::erofs;
use image::tree::Tree;
use recipe::Network;
use step::request::Lower;

use self::caches::Caches;
use self::failure::{Failed, Why, Wish, why};
use self::halt::{Halt, lock};
use self::inputs_disk::InputsDisk;
use self::live::live;
use self::machine::{BuildMachine, MachineSettings, Ran, Tail};
use self::request::Surroundings;
use super::kept::key::Key;
use super::kept::store::{Kind, Store, write_image};
use super::package::WrongRecipe;
use super::package::planned::{Command, Planned, Work};
use super::tree::base::OpenBase;
use super::tree::edits::Editor;

/// Most disks of a machine: each needs a slot of its PCI bus.
const DISKS_MAX: usize = 20;

/// Most layers of a stack: the names of all layers must fit into one page of options of a mount
/// (mount(2)).
const STACK_MAX: usize = 150;

/// Whether a step that could take its layer from the store does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Reuse {
    /// All steps do.
    All,
    /// Those before this index do.
    Before(usize),
}

/// The layers that a step can have without running.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Reusable<'a> {
    pub(in crate::image_command::recipe) store: &'a Store,
    pub(in crate::image_command::recipe) reuse: Reuse,
    /// Keys of the steps that this build has run.
    pub(in crate::image_command::recipe) built: &'a Mutex<HashSet<Key>>,
}

impl Reusable<'_> {
    /// Whether the step with this index need not run.
    fn has(&self, index: usize, step: &Planned) -> bool {
        let may = match self.reuse {
            Reuse::All => true,
            Reuse::Before(first) => index < first,
        };
        (may || lock(self.built).contains(&step.key))
            && self.store.open(Kind::Layer, &step.key).is_some()
    }
}

/// What a build leaves for later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Keeping {
    /// Layers, outputs, caches, the record of the build, and the lock file.
    Everything,
    /// Nothing: the build only shows something.
    Nothing,
}

/// How steps run.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct Manner {
    /// What the build leaves for later ones.
    pub(in crate::image_command::recipe) keeping: Keeping,
    pub(in crate::image_command::recipe) reuse: Reuse,
    /// Words for the `chrootvm run` of the machine.
    pub(in crate::image_command::recipe) machine_words: Vec<OsString>,
}

/// What becomes of the output of steps, and of a step that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum OnFailure {
    /// The build ends.
    End,
    /// A shell runs in the machine first.
    Shell,
}

/// What is told about a step after it: its index, and the trees before and after it.
pub(in crate::image_command::recipe) type Observe<'a> =
    dyn FnMut(usize, &Tree, &Tree) -> Result<()> + 'a;

/// Everything that running the steps takes.
pub(in crate::image_command::recipe) struct Builder<'a> {
    pub(in crate::image_command::recipe) reusable: Reusable<'a>,
    pub(in crate::image_command::recipe) steps: &'a [Planned],
    /// Index of the first step that was not told about before.
    pub(in crate::image_command::recipe) first_told: usize,
    /// Beginning of the lines that the programs of steps write.
    pub(in crate::image_command::recipe) prefix: &'a str,
    pub(in crate::image_command::recipe) base: &'a Mutex<OpenBase>,
    pub(in crate::image_command::recipe) editor: Editor<'a>,
    pub(in crate::image_command::recipe) on_failure: OnFailure,
    pub(in crate::image_command::recipe) halt: &'a Halt,
    /// Settings of the machine; the network follows from the steps.
    pub(in crate::image_command::recipe) machine: MachineSettings,
    /// Secrets by package and name are read when a step needs them.
    pub(in crate::image_command::recipe) surroundings: Surroundings,
}

/// The state between two steps.
struct State {
    tree: Tree,
    /// The tree up to the top of the stack. Only while commands are left to run.
    covered: Option<Tree>,
    /// Whether `tree` has edits above `covered`.
    is_edited: bool,
    /// Layers for a machine that has not started, the lowest first.
    files: Vec<File>,
    running: Option<Running>,
}

/// A machine, and what its steps see.
struct Running {
    machine: BuildMachine,
    stack: Vec<Lower>,
    inputs: InputsDisk,
    caches: Caches,
}

/// Indexes of the commands that have to run: the first one whose layer is missing, and all after
/// it.
pub(in crate::image_command::recipe) fn missing(
    steps: &[Planned],
    reusable: &Reusable<'_>,
) -> Vec<usize> {
    let commands = steps.iter().enumerate();
    let commands = commands.filter(|(_, step)| matches!(step.work, Work::Command(_)));
    let first = commands.clone().find(|(index, step)| !reusable.has(*index, step));
    let Some((first, _)) = first else { return Vec::new() };
    commands.map(|(index, _)| index).filter(|index| *index >= first).collect()
}

impl Builder<'_> {
    /// The tree after all steps. `observe` is told about each of them.
    ///
    /// # Errors
    /// [`Failed`]; a file that cannot be read or written; those of `observe`.
    pub(in crate::image_command::recipe) fn run(
        &mut self,
        mut observe: Option<&mut Observe<'_>>,
    ) -> Result<Tree> {
        let missing = missing(self.steps, &self.reusable);
        let last = missing.last().copied();
        let mut state = self.start(&missing)?;
        let steps = self.steps;
        for (index, step) in steps.iter().enumerate() {
            // Behind the last command, the machine has nothing to do.
            if last.is_some_and(|last| index == last + 1) {
                self.end(&mut state)?;
            }
            let before = observe.is_some().then(|| state.tree.clone());
            match &step.work {
                Work::Command(command) => match missing.contains(&index) {
                    true => self.command(index, command, &missing, &mut state)?,
                    false => self.kept(index, !missing.is_empty(), &mut state)?,
                },
                Work::Mount(..) => {}
                work => {
                    self.editor.edit(&mut state.tree, work).with_context(|| step.place.clone())?;
                    state.is_edited = true;
                }
            }
            if let (Some(observe), Some(before)) = (&mut observe, before) {
                observe(index, &before, &state.tree).with_context(|| step.place.clone())?;
            }
        }
        self.end(&mut state)?;
        Ok(state.tree)
    }

    fn start(&mut self, missing: &[usize]) -> Result<State> {
        let mut state = State {
            tree: Tree::new(super::tree::base::root_meta()),
            covered: None,
            is_edited: false,
            files: Vec::new(),
            running: None,
        };
        if missing.is_empty() {
            state.tree = lock(self.base).tree(self.reusable.store)?;
            return Ok(state);
        }
        if let Some((file, tree)) = lock(self.base).disk(self.reusable.store)? {
            state.files.push(file);
            state.tree = tree;
        }
        state.covered = Some(state.tree.clone());
        Ok(state)
    }

    /// Takes the kept layer of a command. `is_below` says that commands are left to run.
    fn kept(&mut self, index: usize, is_below: bool, state: &mut State) -> Result<()> {
        let step = self.steps.get(index).context("no such step")?;
        let file = self.reusable.store.open(Kind::Layer, &step.key);
        let file =
            file.with_context(|| format!("{}: its layer was removed meanwhile", step.title))?;
        if is_below {
            self.cover(state)?;
            state.files.push(file.try_clone()?);
        }
        if index >= self.first_told {
            log::info!("{}: {} (kept)", step.number, step.title);
        }
        apply(state, file)
    }

    /// Makes a layer of the edits since the last one.
    fn cover(&mut self, state: &mut State) -> Result<()> {
        if !state.is_edited {
            return Ok(());
        }
        let covered = state.covered.as_ref().context("the stack has no tree")?;
        let layer = overlay::difference(covered, &state.tree)?;
        match &mut state.running {
            Some(running) => {
                let device = running.machine.fill_slot(&|file| write_image(&layer, file))?;
                running.stack.push(Lower::Disk(device));
            }
            None => {
                let file = self.reusable.store.temporary()?;
                write_image(&layer, &file)?;
                state.files.push(file);
            }
        }
        state.covered = Some(state.tree.clone());
        state.is_edited = false;
        Ok(())
    }

    fn command(
        &mut self,
        index: usize,
        command: &Command,
        missing: &[usize],
        state: &mut State,
    ) -> Result<()> {
        self.halt.check()?;
        let step = self.steps.get(index).context("no such step")?;
        let is_full = state.running.as_ref().is_some_and(|one| {
            one.stack.len() >= STACK_MAX || state.is_edited && !one.machine.has_slot()
        });
        if is_full {
            self.end(state)?;
            self.flatten(state)?;
        }
        self.cover(state)?;
        if state.running.is_none() {
            let left = missing.get(missing.partition_point(|at| *at < index)..);
            state.running = Some(self.boot(left.unwrap_or_default(), state)?);
        }
        let running = state.running.as_mut().context("the machine does not run")?;
        let request = request::request(step, command, &self.surroundings, &state.tree);
        let mut request = request.with_context(|| step.place.clone())?;
        request.number = u32::try_from(index + 1)?;
        request.lowers.clone_from(&running.stack);
        running.inputs.add_to(&mut request, index);
        running.caches.add_to(&mut request, command, &state.tree);
        let checked = request.to_bytes();
        checked.map_err(|error| WrongRecipe(format!("{}: {error}", step.place)))?;
        let timeout = command.step.timeout.unwrap_or(step.package.recipe.build.timeout);
        log::info!("{}: {}", step.number, step.title);
        let (start, mut tail) = (Instant::now(), Tail::default());
        let ran = running.machine.run(&request, timeout, &mut live(self.prefix), &mut tail)?;
        let why = match ran {
            Ran::Reported(report) => why(&report, Wish::of(command.network, &tail.text())),
            Ran::TimedOut => Some(Why::TimedOut(timeout)),
            Ran::Lost => Some(Why::Lost(running.machine.ended())),
        };
        if let Some(why) = why {
            let failed = Failed::new(step, why, &mut tail);
            if self.on_failure == OnFailure::Shell && failed.leaves_machine() {
                // One after the other: there is one terminal.
                let _turn = self.halt.turn();
                self.halt.check()?;
                log::error!("{failed}");
                running.machine.shell()?;
            }
            bail!(failed);
        }
        log::debug!("{} took {:.2} s", step.number, start.elapsed().as_secs_f64());
        // The layer must be that of its key, which covers the edits since the last command.
        let before = self.steps.get(..index).unwrap_or_default();
        let is_command = |step: &Planned| matches!(step.work, Work::Command(_));
        let since = before.iter().rposition(is_command).map_or(0, |last| last + 1);
        let of_layer = self.steps.get(since..=index).unwrap_or_default();
        of_layer.iter().try_for_each(Planned::check_unchanged)?;
        running.stack.push(Lower::Step(request.number));
        let scratch = running.machine.scratch()?;
        let upper = format!("{}/upper", request.number);
        let at = scratch.find(upper.as_bytes()).context("the machine has left no layer")?;
        let layer = scratch.below(at)?;
        let kept = self
            .reusable
            .store
            .keep(Kind::Layer, &step.key, &mut |file| write_image(&layer, file))?;
        lock(self.reusable.built).insert(step.key);
        apply(state, kept)?;
        state.covered = Some(state.tree.clone());
        Ok(())
    }

    /// Starts the machine for the commands `missing`.
    fn boot(&mut self, missing: &[usize], state: &mut State) -> Result<Running> {
        let steps = self.steps;
        let first = missing.first().copied().unwrap_or_default();
        let last = missing.last().copied().unwrap_or_default();
        let left = steps.get(first..=last).unwrap_or_default();
        let edits = left.windows(2).filter(|pair| is_edit(&pair[0]) && !is_edit(&pair[1]));
        let slots = edits.count();
        let caches = Caches::of(steps, missing, self.reusable.store, self.editor.select)?;
        let others = caches.files().count() + 2;
        if state.files.len() + slots + others > DISKS_MAX {
            self.flatten(state)?;
        }
        let slots = slots.min(DISKS_MAX.saturating_sub(state.files.len() + others));
        let mut disks: Vec<File> = std::mem::take(&mut state.files);
        let layers = disks.len();
        let (file, mut inputs) =
            InputsDisk::write(steps, missing, &self.editor, self.reusable.store)?;
        disks.push(file);
        for file in caches.files() {
            disks.push(file.try_clone()?);
        }
        let uses_network = |step: &Planned| match &step.work {
            Work::Command(command) => command.network == Network::User,
            _ => false,
        };
        let network = match missing.iter().filter_map(|index| steps.get(*index)).any(uses_network) {
            true => Network::User,
            false => Network::None,
        };
        self.machine.network = network;
        let machine = BuildMachine::start(&self.machine, &disks, slots, self.reusable.store)?;
        self.halt.add(machine.hold());
        let devices = machine.devices.clone();
        let (of_layers, others) = devices.split_at(layers.min(devices.len()));
        let (of_inputs, of_caches) = others.split_first().context("the machine lacks a disk")?;
        inputs.device.clone_from(of_inputs);
        let stack = of_layers.iter().cloned().map(Lower::Disk).collect();
        Ok(Running { machine, stack, inputs, caches: caches.at(of_caches) })
    }

    /// Makes one layer of all layers for a machine that has not started.
    fn flatten(&self, state: &mut State) -> Result<()> {
        let file = self.reusable.store.temporary()?;
        write_image(state.covered.as_ref().context("the stack has no tree")?, &file)?;
        state.files = vec![file];
        Ok(())
    }

    /// Keeps the caches, and ends the machine.
    fn end(&mut self, state: &mut State) -> Result<()> {
        let Some(running) = state.running.take() else { return Ok(()) };
        let scratch = running.machine.scratch()?;
        running.caches.keep(&scratch, self.reusable.store)
    }
}

/// Whether a step changes the tree without a machine.
fn is_edit(step: &Planned) -> bool {
    !matches!(step.work, Work::Command(_) | Work::Mount(..))
}

/// Applies a layer that is kept in `file`.
fn apply(state: &mut State, file: File) -> Result<()> {
    let layer = erofs::read(Arc::new(file)).context("read a kept layer")?;
    overlay::apply(&mut state.tree, &layer, Tree::ROOT, RootMeta::OfLayer)
}
