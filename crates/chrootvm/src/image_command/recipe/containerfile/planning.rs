//! Planning a stage: its base is opened, arguments are put in, and the keys of its steps are
//! computed. For the keys of steps that copy from other stages, those may have to be built first.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use image::edit::select;
use oci::name::platform::Platform;
use recipe::containerfile::{
    Action, Config, Evaluated, From, FromBase, Mount, Origin, Source as CopySource,
};

use super::super::kept::key::Key;
use super::super::kept::store::Kind;
use super::super::package::WrongRecipe;
use super::super::package::inputs::{DIGEST, Owners};
use super::super::package::plan::short;
use super::super::package::planned::{Part, Planned, Selection, TreeName};
use super::super::run::halt::lock;
use super::super::run::{self, Reuse};
use super::super::tree::base::OpenBase;
use super::config;
use super::stages::{Purpose, Stage, Stages, wrong};

impl Stages<'_> {
    /// Plans a stage: opens its base, puts arguments in, and computes the keys of its steps.
    pub(super) fn plan(&self, index: usize) -> Result<Stage> {
        self.halt.check()?;
        let mut stage = self.begin(index)?;
        let evaluated = self.settings.file.evaluate(index, &stage.config, &self.settings.arguments);
        let Evaluated { instructions, config } =
            evaluated.map_err(|mistake| wrong(&self.settings.package, &mistake))?;
        let actions: Vec<&Action> = instructions.iter().map(|done| &done.action).collect();
        self.prepare(&actions)?;
        let total = instructions.len();
        for (number, done) in instructions.iter().enumerate() {
            let place = self.settings.package.place(done.position);
            if matches!(done.action, Action::Run(_)) && !runs_here(&stage.platform) {
                let platform = &stage.platform;
                bail!(WrongRecipe(format!(
                    "{place}: RUN: the image is for {platform}, and machines of this host are for {}",
                    Platform::host()
                )));
            }
            let work = self.work(&done.action).with_context(|| place.clone());
            let Some((work, parts)) = work? else {
                stage.history.push((done.text.clone(), None));
                continue;
            };
            stage.key = Part::key_after(&stage.key, &parts);
            stage.history.push((done.text.clone(), Some(stage.steps.len())));
            stage.steps.push(Planned {
                package: Arc::clone(&self.settings.package),
                number: format!("{} {}/{total}", self.label(index), number + 1),
                title: short(&done.text.split_whitespace().collect::<Vec<_>>().join(" ")),
                place,
                work,
                parts,
                key: stage.key,
            });
        }
        stage.config = config;
        Ok(stage)
    }

    /// What a stage begins with.
    fn begin(&self, index: usize) -> Result<Stage> {
        let From { base, platform } = self.froms.get(index).context("there is no such stage")?;
        let place = self
            .settings
            .file
            .stages
            .get(index)
            .map(|stage| self.settings.package.place(stage.position));
        let place = place.unwrap_or_default();
        let platform = match platform {
            Some(text) => {
                let parsed = text.parse::<Platform>();
                Some(parsed.with_context(|| format!("{place}: --platform {text}"))?)
            }
            None => None,
        };
        let name = match base {
            FromBase::Stage(below) => {
                let below = self.stage(*below)?;
                let Stage { steps, base, config, history, key, platform, .. } = &*below;
                return Ok(Stage {
                    first_own: steps.len(),
                    steps: steps.clone(),
                    base: Arc::clone(base),
                    config: config.clone(),
                    history: history.clone(),
                    key: *key,
                    platform: platform.clone(),
                });
            }
            FromBase::Scratch => None,
            FromBase::Image(name) => Some(name),
        };
        let base = match name {
            None => Arc::new(Mutex::new(OpenBase::empty())),
            Some(name) => {
                let open = self.settings.images.open(name, platform.as_ref());
                open.with_context(|| {
                    format!(
                        "{place}: FROM {name} (--build-context {name}=SOURCE names another source)"
                    )
                })?
            }
        };
        let opened = lock(&base);
        let process = opened.process();
        if let Some(trigger) = process.and_then(|process| process.on_build.first()) {
            bail!(WrongRecipe(format!(
                "{place}: the base has instructions for those who build on it (ONBUILD {trigger}), \
                 which are not supported"
            )));
        }
        let config = match (name, process) {
            (None, _) => Config::scratch(),
            (_, process) => process.map(config::of_process).unwrap_or_default(),
        };
        let of_image = opened.image().map(|image| image.config.platform.clone());
        let platform = of_image.or(platform).unwrap_or_else(|| self.settings.platform.clone());
        let key = opened.key.unwrap_or_else(|| Key::first(&[b"empty"]));
        drop(opened);
        let (steps, history) = (Vec::new(), Vec::new());
        Ok(Stage { steps, first_own: 0, base, config, history, key, platform })
    }

    /// Builds the stages whose files must be read for the keys of `actions`, at the same time.
    fn prepare(&self, actions: &[&Action]) -> Result<()> {
        if self.settings.purpose == Purpose::Show {
            return Ok(());
        }
        let mut needed = BTreeSet::new();
        for selection in actions.iter().flat_map(|action| selections(action)) {
            if let TreeName::Stage(stage) = selection.tree
                && self.kept_digest(&self.name_of(&selection)?).is_none()
            {
                needed.insert(stage);
            }
        }
        self.build_all(&needed)
    }

    /// Names the files of a selection, for what is kept about them.
    fn name_of(&self, selection: &Selection) -> Result<Key> {
        let tree = match &selection.tree {
            TreeName::Stage(index) => self.stage(*index)?.key,
            TreeName::Image(name) => {
                let base = self.settings.images.open(name, None)?;
                let key = lock(&base).key;
                key.unwrap_or_else(|| Key::first(&[b"empty"]))
            }
        };
        let exclude = selection.exclude.iter().map(String::as_bytes);
        let parts = [&b"selection"[..], selection.pattern.as_bytes()].into_iter().chain(exclude);
        Ok(tree.then(&parts.collect::<Vec<_>>()))
    }

    /// What an earlier build has found out about files. A build that runs all steps again finds
    /// other files.
    fn kept_digest(&self, name: &Key) -> Option<[u8; DIGEST]> {
        match self.settings.manner.reuse {
            Reuse::All => {
                self.settings.store.read(Kind::Input, name, DIGEST as u64)?.try_into().ok()
            }
            Reuse::Before(_) => None,
        }
    }

    /// Digest of the files of another tree; `None` if that would take a machine, and nothing is
    /// built.
    ///
    /// # Errors
    /// Those of [`Self::select`].
    pub(super) fn digest(&self, selection: &Selection) -> Result<Option<[u8; DIGEST]>> {
        let name = self.name_of(selection)?;
        if let Some(kept) = self.kept_digest(&name) {
            return Ok(Some(kept));
        }
        if let (Purpose::Show, TreeName::Stage(stage)) = (self.settings.purpose, &selection.tree) {
            let stage = self.stage(*stage)?;
            if !run::missing(&stage.steps, &self.reusable()).is_empty() {
                return Ok(None);
            }
        }
        let mut digests = Vec::new();
        for mut input in self.select(selection)? {
            digests.push(input.name.clone());
            digests.push(input.identify(Owners::Count)?.to_vec());
        }
        let digests: Vec<&[u8]> = digests.iter().map(Vec::as_slice).collect();
        let digest = Key::first(&digests).bytes();
        if let TreeName::Stage(stage) = &selection.tree {
            self.check_unchanged(*stage)?;
        }
        self.settings.store.note(Kind::Input, &name, &digest);
        Ok(Some(digest))
    }
}

/// Whether machines of this host run programs of `platform`.
fn runs_here(platform: &Platform) -> bool {
    platform.architecture == Platform::host().architecture
}

/// The files of other stages and of images that an action uses.
fn selections(action: &Action) -> Vec<Selection> {
    let of = |origin: &Origin, pattern: &str, exclude: &[String]| {
        let tree = match origin {
            Origin::Context => return None,
            Origin::Stage(index) => TreeName::Stage(*index),
            Origin::Image(name) => TreeName::Image(name.clone()),
        };
        Some(Selection { tree, pattern: pattern.to_owned(), exclude: exclude.to_vec() })
    };
    match action {
        Action::Copy(copy) => {
            let patterns = copy.sources.iter().filter_map(|source| match source {
                CopySource::Path(pattern) => Some(pattern),
                _ => None,
            });
            patterns.filter_map(|pattern| of(&copy.origin, pattern, &copy.exclude)).collect()
        }
        Action::Run(run) => {
            let of_mount = |mount: &Mount| match mount {
                Mount::Bind { origin, source, .. }
                | Mount::Cache { from: Some(origin), source, .. } => {
                    of(origin, &literal(source), &[])
                }
                Mount::Cache { from: None, .. } | Mount::Secret { .. } | Mount::Tmpfs { .. } => {
                    None
                }
            };
            run.mounts.iter().filter_map(of_mount).collect()
        }
        Action::Config | Action::Directory { .. } => Vec::new(),
    }
}

/// A pattern that matches only this path.
pub(super) fn literal(path: &str) -> String {
    if !select::has_wildcard(path) {
        return path.to_owned();
    }
    let one = |letter: char| match letter {
        '*' | '?' | '[' => format!("[{letter}]"),
        '\\' => "\\\\".to_owned(),
        letter => letter.to_string(),
    };
    path.chars().map(one).collect()
}
