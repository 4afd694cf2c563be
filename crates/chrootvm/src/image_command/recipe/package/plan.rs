//! From recipes to a list of steps, each with its key.
//!
//! A recipe that builds on another one is that one's steps and then its own: there is one list,
//! and each step knows the package that it belongs to. A key covers the key before it and all
//! parts of the step; a part has a name, by which `--explain` calls it.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use recipe::{
    Action, Base, Busybox, BusyboxSource, CommandStep, Contents, Network, Program, Scope, Step,
    is_pattern,
};
use step::request::Access;

use super::super::kept::key::Key;
use super::super::package::inputs::{Input, Owners};
use super::super::package::{Package, WrongRecipe};
use super::planned::{CacheUse, Command, Mount, Part, Planned, SecretUse, Work};

/// Most recipes that build one on another.
const DEPTH_MAX: usize = 16;

/// Longest title of a step, in characters.
const TITLE_MAX: usize = 60;

/// Directory in which steps see secrets.
const SECRETS: &str = "/run/secrets";

/// What all commands of a build see of it, whatever their recipe says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::image_command::recipe) struct Surroundings {
    /// Processor for which the steps run.
    pub(in crate::image_command::recipe) platform: String,
    /// Time that is given for the build; `None` for that of the base.
    pub(in crate::image_command::recipe) time: Option<u32>,
}

/// The recipe and those that it builds on, the lowest first.
///
/// # Errors
/// A recipe that cannot be read; a circle; more than [`DEPTH_MAX`] recipes.
pub(in crate::image_command::recipe) fn chain(package: Package) -> Result<Vec<Arc<Package>>> {
    let mut chain = vec![Arc::new(package)];
    loop {
        let upper = chain.last().context("there is one recipe at least")?;
        let Base::Recipe(path) = &upper.recipe.from.base else { break };
        let shown = upper.file.display();
        let naming = || format!("{shown}: from.recipe: {}", path.display());
        let found = upper.own(path).with_context(naming)?;
        let lower = upper.open_other(&found)?;
        let is_same =
            |known: &Arc<Package>| known.path().canonicalize().ok().as_ref() == Some(&found);
        if chain.iter().any(is_same) {
            bail!(WrongRecipe(format!(
                "{}: the recipes build on each other in a circle",
                naming()
            )));
        }
        ensure!(chain.len() < DEPTH_MAX, "{}: more than {DEPTH_MAX} recipes", naming());
        chain.push(Arc::new(lower));
    }
    chain.reverse();
    Ok(chain)
}

/// The steps of `chain`. `base` is the key of the base.
///
/// # Errors
/// A file that a step names is missing or leads out of the package.
pub(in crate::image_command::recipe) fn plan(
    chain: &[Arc<Package>],
    base: Option<Key>,
    surroundings: &Surroundings,
) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let mut key = base.unwrap_or_else(|| Key::first(&[b"empty"]));
    let mut mounted: Vec<Part> = Vec::new();
    let mut add = |package: &Arc<Package>, title: String, place: String, work, parts: Vec<Part>| {
        key = Part::key_after(&key, &parts);
        let (package, number) = (Arc::clone(package), format!("step {}", planned.len() + 1));
        planned.push(Planned { package, number, title, place, work, parts, key });
    };
    for (depth, package) in chain.iter().enumerate() {
        let shown = package.file.display().to_string();
        if depth == 0 && base.is_none() {
            add(
                package,
                "directories of an empty image".into(),
                shown.clone(),
                Work::Skeleton,
                Vec::new(),
            );
        }
        if let Some(busybox) = &package.recipe.busybox {
            let (work, parts) =
                plan_busybox(package, busybox).context("[busybox]").context(shown.clone())?;
            add(package, "busybox".into(), shown, work, parts);
        }
        for step in &package.recipe.steps {
            let place = package.place(step.position);
            let planned = plan_step(package, step);
            let wrong = |error| WrongRecipe(format!("{place}: {error:#}"));
            let (work, mut parts) = planned.map_err(wrong)?;
            parts.insert(0, Part::new("its text", text(step)));
            match &work {
                Work::Command(command) => {
                    parts.extend(settings(package, command.network, surroundings));
                    parts.extend(mounted.iter().cloned());
                }
                Work::Mount(..) => mounted.extend(parts.iter().cloned()),
                _ => {}
            }
            add(package, title(step), place, work, parts);
        }
    }
    Ok(planned)
}

fn plan_busybox(package: &Package, busybox: &Busybox) -> Result<(Work, Vec<Part>)> {
    let text = Part::new("its text", format!("{busybox:?}"));
    Ok(match &busybox.source {
        BusyboxSource::Path(path) => {
            let mut input = input(package, path)?;
            ensure!(!input.is_directory, "{} is a directory", path.display());
            let digest =
                Part::new(format!("the file {}", path.display()), input.identify(Owners::Ignored)?);
            (Work::Busybox(busybox.clone(), Some(input)), vec![text, digest])
        }
        BusyboxSource::Url { .. } => (Work::Busybox(busybox.clone(), None), vec![text]),
    })
}

fn plan_step(package: &Package, step: &Step) -> Result<(Work, Vec<Part>)> {
    Ok(match &step.action {
        Action::Command(command) => plan_command(package, command)?,
        Action::Put(put) => {
            let (inputs, parts) = files(package, &put.contents)?;
            match put.scope {
                Scope::Image => (Work::Put(put.clone(), inputs), parts),
                Scope::Build => {
                    ensure!(
                        put.owner.is_none(),
                        "owner is not for mount = true: root owns the file"
                    );
                    (Work::Mount(put.clone(), inputs), parts)
                }
            }
        }
        Action::Link(link) => (Work::Link(link.clone()), Vec::new()),
        Action::Directory(directory) => (Work::Directory(directory.clone()), Vec::new()),
        Action::Remove(patterns) => (Work::Remove(patterns.clone()), Vec::new()),
    })
}

fn plan_command(package: &Package, step: &CommandStep) -> Result<(Work, Vec<Part>)> {
    let mut parts = Vec::new();
    let mut read = |path: &std::path::Path| -> Result<Input> {
        let mut input = input(package, path)?;
        parts.push(Part::new(
            format!("the file {}", path.display()),
            input.identify(Owners::Ignored)?,
        ));
        Ok(input)
    };
    let script = match &step.program {
        Program::Script(path) => {
            let input = read(path)?;
            ensure!(!input.is_directory, "script {} is a directory", path.display());
            Some(input)
        }
        Program::Shell(_) | Program::Words(_) => None,
    };
    let inputs = step.inputs.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let network = step.network.unwrap_or(package.recipe.build.network);
    let command = Command {
        step: step.clone(),
        network,
        inputs,
        script,
        hidden_env: Vec::new(),
        caches: package.recipe.build.cache.iter().map(|path| cache(package, path)).collect(),
        mounts: step.secrets.iter().map(|name| Mount::Secret(secret(name))).collect(),
    };
    Ok((Work::Command(Box::new(command)), parts))
}

/// The cache at `path`, which belongs to the recipe.
fn cache(package: &Package, path: &str) -> CacheUse {
    let recipe = package.identity();
    CacheUse {
        key: Key::first(&[b"cache", recipe.as_os_str().as_bytes(), path.as_bytes()]),
        path: path.to_owned(),
        access: Access::ReadWrite,
        meta: None,
        seed: None,
    }
}

/// How steps of recipes see the secret `name`.
fn secret(name: &str) -> SecretUse {
    SecretUse {
        id: name.to_owned(),
        path: Some(format!("{SECRETS}/{name}")),
        env: None,
        is_required: true,
        mode: 0o400,
        owner: None,
    }
}

/// The text of a step, without its time limit: a step that ends in time does not notice it.
fn text(step: &Step) -> Vec<u8> {
    let mut step = step.clone();
    if let Action::Command(command) = &mut step.action {
        command.timeout = None;
    }
    step.canonical()
}

/// What a command step takes from its recipe's `[build]`. Limits and secrets are no part of it.
fn settings(package: &Package, network: Network, surroundings: &Surroundings) -> [Part; 6] {
    let build = &package.recipe.build;
    let hosts: Vec<_> = build.volumes.keys().collect();
    [
        Part::new("its network", format!("{network:?}")),
        Part::new("the environment of [build]", format!("{:?}", build.env)),
        Part::new("the host name", build.hostname.clone()),
        Part::new("the caches and volumes of [build]", format!("{:?} {hosts:?}", build.cache)),
        Part::new("the processor", surroundings.platform.clone()),
        Part::new("the time of the build", format!("{:?}", surroundings.time)),
    ]
}

/// The files of a put step, and their digests.
fn files(package: &Package, contents: &Contents) -> Result<(Vec<Input>, Vec<Part>)> {
    let Contents::Files(path) = contents else { return Ok((Vec::new(), Vec::new())) };
    let paths = match is_pattern(path) {
        true => package.matches(path)?,
        false => vec![path.into()],
    };
    let (mut inputs, mut parts) = (Vec::new(), Vec::new());
    for path in paths {
        let mut input = input(package, &path)?;
        ensure!(
            inputs.iter().all(|other: &Input| other.name != input.name),
            "two files are called {}",
            String::from_utf8_lossy(&input.name)
        );
        let digest = input.identify(Owners::Ignored)?;
        let name = [&input.name[..], b"\0", &digest].concat();
        parts.push(Part::new(format!("the file {}", path.display()), name));
        inputs.push(input);
    }
    Ok((inputs, parts))
}

fn input(package: &Package, path: &std::path::Path) -> Result<Input> {
    let reading = || format!("read {}", path.display());
    let found = package.own(path)?;
    // The directory of the package has no name in the recipe.
    let name = path.file_name().or(found.file_name()).with_context(reading)?;
    Input::read(&found, name).with_context(reading)
}

/// The title of a step: its label, or else its beginning.
fn title(step: &Step) -> String {
    if let Some(label) = &step.label {
        return label.clone();
    }
    let whole = match &step.action {
        Action::Command(command) => match &command.program {
            Program::Shell(text) => format!("run {}", text.trim()),
            Program::Words(words) => format!("run {}", words.join(" ")),
            Program::Script(path) => format!("script {}", path.display()),
        },
        Action::Put(put) => match &put.contents {
            Contents::Files(path) => format!("put {path} to {}", put.to),
            Contents::Text(_) => format!("text to {}", put.to),
            Contents::Url { url, .. } => format!("url {url} to {}", put.to),
        },
        Action::Link(link) => format!("link {} to {}", link.to, link.target),
        Action::Directory(directory) => format!("mkdir {}", directory.path),
        Action::Remove(patterns) => format!("remove {}", patterns.join(" ")),
    };
    short(&whole)
}

/// The beginning of a text, for people.
pub(in crate::image_command::recipe) fn short(whole: &str) -> String {
    let line = whole.lines().next().unwrap_or_default();
    let short: String = line.chars().take(TITLE_MAX).collect();
    match short.len() < whole.len() {
        true => format!("{short} …"),
        false => short,
    }
}
