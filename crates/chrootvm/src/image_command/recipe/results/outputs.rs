//! The files that a recipe makes, all of one tree.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use archive::compress::Method;
use files::notes::Notes;
use image::edit::exclude::Exclusion;
use image::edit::{inject, normalise, remove};
use image::elf;
use image::format::Format;
use image::tree::{Kind as NodeKind, Meta, Tree};
use machine::host;
use machine::kernel::initrd::find_init;
use machine::kernel::pack;
use oci::document::config::Process;
use oci::image::Image;
use recipe::{Init, Output};

use super::super::super::write::oci_archive::ImageParts;
use super::super::super::write::output::FormatOptions;
use super::super::kept::key::Key;
use super::super::package::Package;
use super::super::results::workload;
use super::kept_output::{KeptOutput, may_be_kept};
use crate::logger::warn_all;

/// A file to make.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Planned {
    pub(in crate::image_command::recipe) path: PathBuf,
    pub(in crate::image_command::recipe) output: Output,
    pub(in crate::image_command::recipe) format: (Format, Method),
    options: FormatOptions,
}

/// What all outputs are made of, besides the tree.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Contents<'a> {
    pub(in crate::image_command::recipe) package: &'a Package,
    pub(in crate::image_command::recipe) process: Process,
    /// The OCI image of the base, and the tree that it has.
    pub(in crate::image_command::recipe) image: Option<(&'a Image, Tree)>,
    /// Time of the images, and the latest of a file.
    pub(in crate::image_command::recipe) time: u32,
    /// `/init` of the command line.
    pub(in crate::image_command::recipe) init: Option<PathBuf>,
}

/// The files that `recipe` makes. `given` is the value of `-o`.
///
/// # Errors
/// No output is named; two have one name; an unknown format, or an option that is not for it.
pub(in crate::image_command::recipe) fn plan(
    package: &Package,
    given: Option<&Path>,
) -> Result<Vec<Planned>> {
    let outputs = &package.recipe.outputs;
    let named: Vec<(PathBuf, Output)> = match (outputs.as_slice(), given) {
        ([], None) => bail!("{}: it has no [[output]]: give -o FILE", package.file.display()),
        ([], Some(path)) => {
            vec![(path.to_path_buf(), Output { file: path.into(), ..Output::default() })]
        }
        ([output], Some(path)) if !is_directory(path) => vec![(path.to_path_buf(), output.clone())],
        (outputs, Some(path)) => {
            ensure!(
                is_directory(path),
                "-o {}: the recipe has {} outputs: name a directory that exists",
                path.display(),
                outputs.len()
            );
            let inside =
                |output: &Output| Some((path.join(output.file.file_name()?), output.clone()));
            outputs.iter().filter_map(inside).collect()
        }
        (outputs, None) => {
            outputs.iter().map(|output| (package.of_host(&output.file), output.clone())).collect()
        }
    };
    let mut planned: Vec<Planned> = Vec::new();
    for (path, output) in named {
        let is_same =
            |other: &Planned| host::absolute(&other.path).ok() == host::absolute(&path).ok();
        ensure!(!planned.iter().any(is_same), "two outputs are called {}", path.display());
        let context = || format!("output {}", output.file.display());
        let options = FormatOptions::of_recipe(&output).with_context(context)?;
        // A slash at the end says that it is a directory, and no path of the file has it.
        let name = if path.file_name() == output.file.file_name() { &output.file } else { &path };
        let format = options.choose(name).with_context(context)?;
        planned.push(Planned { path, output, format, options });
    }
    Ok(planned)
}

fn is_directory(path: &Path) -> bool {
    path.is_dir()
}

impl Planned {
    /// Names the output; `None` if it is not kept.
    pub(in crate::image_command::recipe) fn key(
        &self,
        last: &Key,
        time: Option<u32>,
        contents: &Contents<'_>,
    ) -> Result<Option<Key>> {
        if !may_be_kept(&self.path, self.format.0) {
            return Ok(None);
        }
        let Contents { package, init, .. } = contents;
        let recipe = &package.recipe;
        // The program that writes the output decides about its bytes.
        let program = host::identity(&std::env::current_exe().context("find this program")?)?;
        let init = match self.init(package) {
            Init::Builtin => host::identity(&find_init(init.as_deref())?)?,
            Init::File(path) => host::identity(&package.own(path)?)?,
            Init::Image(_) | Init::None => Vec::new(),
        };
        // The name of the file is no part of it, but says the format.
        let output = format!(
            "{:?} {:?}",
            Output { file: PathBuf::new(), ..self.output.clone() },
            self.format
        );
        let build = &recipe.build.normalise;
        let own = format!("{output} {:?} {:?} {build:?} {time:?}", recipe.run, recipe.init);
        let process = format!("{:?}", contents.process);
        let parts = [own.as_bytes(), process.as_bytes(), &init, &program];
        Ok(Some(last.then(&[&[&b"output"[..]], &parts[..]].concat())))
    }

    /// Writes the output of `tree`.
    ///
    /// # Errors
    /// A tree that the format cannot hold; a file that cannot be read or written.
    pub(in crate::image_command::recipe) fn write(
        &self,
        tree: &Tree,
        contents: &Contents<'_>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut notes = Notes::default();
        let tree = self.tree(tree, contents)?;
        let parts = match self.format.0 {
            Format::OciArchive => ImageParts {
                image: contents.image.as_ref().map(|(image, _)| *image),
                before: contents.image.as_ref().map(|(_, tree)| tree),
                process: Some(contents.process.clone()),
                ..ImageParts::default()
            },
            _ => ImageParts::default(),
        };
        let summary = self.options.write(
            (&tree, &parts),
            self.format,
            &self.path,
            contents.time,
            &mut notes,
        )?;
        warn_all(notes.lines());
        log::info!("{}", summary.line(&self.path, start.elapsed()));
        Ok(())
    }

    /// The output as a kept file with this name.
    pub(in crate::image_command::recipe) fn kept(&self, key: Key) -> KeptOutput<'_> {
        KeptOutput { path: &self.path, format: self.format.0, key }
    }

    /// What this output has as PID 1.
    fn init<'a>(&self, package: &'a Package) -> &'a Init {
        let usual = match &package.recipe.init {
            Some(init) => init,
            None if package.recipe.run.command.is_empty()
                || self.format.0 == Format::OciArchive =>
            {
                &Init::None
            }
            None => &Init::Builtin,
        };
        match (self.output.init, usual) {
            (Some(false), _) => &Init::None,
            (Some(true), Init::None) => &Init::Builtin,
            _ => usual,
        }
    }

    /// The tree of this output.
    fn tree(&self, tree: &Tree, contents: &Contents<'_>) -> Result<Tree> {
        let Contents { package, process, time, .. } = contents;
        let recipe = &package.recipe;
        let mut tree = tree.clone();
        normalise::apply(&mut tree, &normalisations(&recipe.build.normalise), i64::from(*time))?;
        if !self.output.include.is_empty() {
            let include = self.output.include.iter().map(String::as_bytes);
            for missing in remove::only(&mut tree, include) {
                log::warn!("include: {} is missing", String::from_utf8_lossy(missing));
            }
        }
        let exclude = self.output.exclude.iter().map(String::as_str);
        Exclusion::of(exclude).context("exclude")?.apply(&mut tree);
        let init = self.init(package);
        self.add_init(&mut tree, init, contents)?;
        let is_own = recipe.run != recipe::Run::default() || *init == Init::Builtin;
        if is_own && self.format.0 != Format::OciArchive {
            workload::add(&mut tree, process, &recipe.run, (*time).into())?;
        }
        inject::clamp_times(&mut tree, *time);
        if self.output.include.is_empty() {
            check_program(&tree, process)?;
        }
        Ok(tree)
    }

    fn add_init(&self, tree: &mut Tree, init: &Init, contents: &Contents<'_>) -> Result<()> {
        let time = i64::from(contents.time);
        let bytes = match init {
            Init::None => return Ok(()),
            Init::Builtin => pack::read_init(&find_init(contents.init.as_deref())?)?,
            Init::File(path) => {
                let path = contents.package.own(path).context("init.file")?;
                std::fs::read(&path).with_context(|| format!("read {}", path.display()))?
            }
            Init::Image(path) => {
                let found = tree.resolve(path.as_bytes());
                found.with_context(|| format!("init.image: {path} is missing in the image"))?;
                if matches!(self.format.0, Format::Cpio(_)) && path != "/init" {
                    let meta = Meta { permissions: 0o777, mtime: time, ..Meta::default() };
                    tree.put(b"init", meta, NodeKind::Symlink(path.as_bytes().into()))?;
                }
                return Ok(());
            }
        };
        let path = inject::init(tree, self.format.0, bytes, time)?;
        log::debug!("{}: PID 1 is /{path}", self.path.display());
        Ok(())
    }
}

/// Checks that the program of the workload can run in the tree.
fn check_program(tree: &Tree, process: &Process) -> Result<()> {
    let words = workload::words(process);
    let Some(program) = words.first().and_then(|word| word.to_str()) else { return Ok(()) };
    if !program.starts_with('/') {
        return Ok(());
    }
    let findings = elf::check(tree, program.as_bytes())?;
    match findings.first() {
        Some(finding) => bail!("[run] command {program}: {finding}"),
        None => Ok(()),
    }
}

fn normalisations(rows: &[recipe::Normalisation]) -> Vec<normalise::Normalisation> {
    use normalise::Normalisation as To;
    use recipe::Normalisation as From;
    let row = |from: &From| match from {
        From::Logs => To::Logs,
        From::Ldconfig => To::Ldconfig,
        From::MachineId => To::MachineId,
        From::DbusId => To::DbusId,
        From::RandomSeed => To::RandomSeed,
        From::WgetHsts => To::WgetHsts,
        From::Apt => To::Apt,
        From::Python => To::Python,
    };
    rows.iter().map(row).collect()
}
