//! `chrootvm image build`: makes an image of a directory, an archive or another image. Recipes are
//! left to [`recipe`].

mod containerfile;
mod edits;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use archive::compress::Method;
use archive::source_date_epoch;
use files::notes::Notes;
use files::output::{self as output_file, directory, existing};
use files::root_dir::RootDir;
use image::edit::inject;
use image::format::Format;
use image::source::{FileId, ReadOptions};
use machine::host::absolute;
use machine::kernel::find::has_module;
use machine::kernel::initrd::find_init;
use machine::kernel::installed;
use machine::kernel::located::Located;
use machine::kernel::pack;
use machine::root::needed_modules::POWER_BUTTON;
use oci::name::platform::Platform;

use self::edits::Edits;
use super::options::ReadArguments;
use super::recipe::containerfile::{BuiltLayers, ContainerfileOptions};
use super::recipe::{self, BuildRecipe, RecipeOptions};
use super::sources::{ReadSource, SourceKind, Sources};
use super::write::oci_archive::ImageParts;
use super::write::output::FormatOptions;
use super::write::workload::{Uses, WorkloadOptions};
use crate::logger::warn_all;
use crate::pull::PullArguments;

/// Make an image of a directory, OCI image, Containerfile or recipe
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chrootvm image build [OPTIONS] SOURCE -o FILE [--run -- COMMAND [ARG]...]\n       \
                      chrootvm image build [OPTIONS] RECIPE [-o FILE]",
    before_help = "Examples:\n  \
                   chrootvm image build oci:debian:12 -o debian.cpio.zst --init\n  \
                   chrootvm image build ./Containerfile -o app.erofs --init\n  \
                   chrootvm image build recipe.toml",
    after_long_help = "Equal sources give equal bytes. SOURCE_DATE_EPOCH is the time of the image, \
                        and the latest of a file (default: 0, and as they are; a Containerfile's \
                        image has the time of its newest file).\n\
                        A compressed archive is unpacked into a file in $TMPDIR."
)]
pub(super) struct BuildImage {
    /// Directory, archive, image (oci:debian:12), Containerfile or recipe (*.toml,
    /// *.recipe.tar.gz); - is standard input
    ///
    /// A file called Containerfile or Dockerfile is built, and its directory has the files for
    /// COPY; see --file for other names and directories. A recipe is a file whose name ends in
    /// .toml, or in .recipe.tar.gz or .recipe.tar if `chrootvm image pack` has packed it. A
    /// directory is a source, also if a Containerfile or a recipe is in it: to build that, give
    /// DIR/Containerfile or DIR/recipe.toml. A packed recipe is unpacked into a directory in
    /// $TMPDIR, which is removed at the end. Its outputs go to the current directory, from where it
    /// also finds files of the host, and its recipe.lock is not written.
    source: OsString,
    /// File to write; - is standard output
    ///
    /// If it lies in SOURCE, the image leaves it out. An existing file is replaced, and the new one
    /// takes its permissions; a pipe or a device is written to directly. For a recipe with several
    /// outputs, it is the directory for them.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    format: FormatOptions,
    #[command(flatten)]
    edits: Edits,
    /// Add /init, from FILE or the installed one
    ///
    /// Its path in the image is /init in a cpio archive, and /sbin/virtinit in other formats. A
    /// kernel can then boot the image without an initrd.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "clap: absent, without a value, with one")]
    init: Option<Option<PathBuf>>,
    #[command(flatten)]
    workload: WorkloadOptions,
    /// Also write the initrd that a kernel with modules needs to boot a disk image
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    boot_initrd: Option<PathBuf>,
    /// Directory with the modules for that initrd [default: those of the newest kernel in SOURCE]
    #[arg(long, hide_short_help = true, value_name = "DIR", requires = "boot_initrd")]
    kernel_modules: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadArguments,
    #[command(flatten)]
    pull: PullArguments,
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    containerfile: ContainerfileOptions,
}

/// A tree to write, and where it comes from.
struct Given {
    source: ReadSource,
    /// How it was read, and how files that are added are read.
    reading: ReadOptions,
    /// Time of the image, and the latest of a file if `epoch` is given.
    mtime: u32,
    /// Value of `SOURCE_DATE_EPOCH`.
    epoch: Option<String>,
    /// Layers for an OCI archive.
    layers: BuiltLayers,
    start: Instant,
}

impl BuildImage {
    /// Builds the recipe, or writes the image. `init_path` is the `/init` to use unless `--init`
    /// names one.
    pub(super) fn run(self, init_path: Option<PathBuf>) -> Result<ExitCode> {
        let source = Path::new(&self.source);
        if recipe::is_recipe(source) {
            if let Some(option) = self.first_of_sources() {
                bail!(
                    "{option} is not for recipes: {} says how its outputs are made",
                    source.display()
                );
            }
            if let Some(option) = self.containerfile.first_given() {
                bail!("{option} is for Containerfiles, and {} is a recipe", source.display());
            }
            let task = BuildRecipe {
                file: source,
                output: self.output.as_deref(),
                options: &self.recipe,
                pull: &self.pull,
                init: init_path,
            };
            return task.run();
        }
        if let Some(paths) = self.paths_of_containerfile()? {
            return recipe::exit_status(self.write_containerfile(&paths, init_path));
        }
        if let Some(option) = self.recipe.first_given() {
            let source = source.display();
            bail!(
                "{option} is for recipes, whose names end in .toml, .recipe.tar or .recipe.tar.gz, \
                 and for Containerfiles, and {source} is none"
            );
        }
        if let Some(option) = self.containerfile.first_given() {
            let source = source.display();
            bail!("{option} is for Containerfiles, and {source} is none: -f FILE names one");
        }
        let output = self.output.clone().context("which file? Give -o FILE")?;
        containerfile::tell_apart(source);
        self.write(&output, init_path).map(|()| ExitCode::SUCCESS)
    }

    /// The first option that is given and that only other sources than recipes have.
    fn first_of_sources(&self) -> Option<&'static str> {
        let rows = [
            (self.format.is_given(), "an option of a format"),
            (self.edits.is_given(), "--exclude or --inject"),
            (self.init.is_some(), "--init"),
            (self.workload.is_given(), "an option of a workload"),
            (self.boot_initrd.is_some(), "--boot-initrd"),
            (self.reading.is_given(), "--xattrs"),
        ];
        rows.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }

    /// Writes the image of a directory, an archive or another image to `output`.
    fn write(self, output: &Path, init_path: Option<PathBuf>) -> Result<()> {
        let start = Instant::now();
        let chosen = self.format.choose(output)?;
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let mtime = source_date_epoch(epoch.as_deref())?;
        let mut notes = Notes::default();
        let reading = ReadOptions { left_out: self.outputs(output), ..self.reading.options()? };
        let sources = self.sources(output, chosen.0, &reading)?;
        let opened = sources.open(&self.source, &mut notes)?;
        let source = sources.tree(opened, &mut notes)?;
        let is_layered = chosen.0 == Format::OciArchive && source.kind.image().is_some();
        let before = is_layered.then(|| source.tree.clone());
        let layers = BuiltLayers { before, ..BuiltLayers::default() };
        let given = Given { source, reading, mtime, epoch, layers, start };
        self.finish(given, output, chosen, init_path, notes)
    }

    /// Adds to a tree what the options ask for, and writes it to `output`, then the initrd of
    /// `--boot-initrd`.
    fn finish(
        &self,
        given: Given,
        output: &Path,
        chosen: (Format, Method),
        init_path: Option<PathBuf>,
        mut notes: Notes,
    ) -> Result<()> {
        let Given { source, reading, mtime, epoch, mut layers, start } = given;
        let ReadSource { mut tree, kind } = source;
        let init_path = match &self.init {
            Some(Some(path)) => Some(path.clone()),
            _ => init_path,
        };
        self.edits.apply(&mut tree, &reading, &mut notes)?;
        if self.init.is_some() {
            let init = pack::read_init(&find_init(init_path.as_deref())?)?;
            inject::init(&mut tree, chosen.0, init, mtime.into())?;
            self.warn_about_platform(&kind);
        }
        let is_image = chosen.0 == Format::OciArchive;
        let uses = Uses { init: self.init.is_some(), config: is_image };
        self.workload.apply(&mut tree, &kind, uses, mtime.into())?;
        if epoch.is_some() {
            inject::clamp_times(&mut tree, mtime);
            if matches!(kind, SourceKind::Built(_)) {
                layers.clamp_times(mtime);
            }
        }
        let initrd = match &self.boot_initrd {
            Some(_) => Some(self.initrd(&kind, chosen.0, &find_init(init_path.as_deref())?)?),
            None => None,
        };
        let own = match &kind {
            SourceKind::Built(built) => Some(built.process.clone()),
            SourceKind::Plain(_) | SourceKind::Oci(_) => None,
        };
        let parts = match is_image {
            true => ImageParts {
                image: kind.image(),
                before: layers.before.as_ref(),
                steps: layers.instructions,
                tag: self.containerfile.tag(),
                author: layers.author.as_deref(),
                process: self.workload.process(kind.process())?.or(own),
                platform: self.pull.platform().cloned(),
            },
            false => ImageParts::default(),
        };
        let summary = self.format.write((&tree, &parts), chosen, output, mtime, &mut notes)?;
        warn_all(notes.lines());
        log::info!("{}", summary.line(output, start.elapsed()));
        match (&self.boot_initrd, initrd) {
            (Some(path), Some(bytes)) => output_file::write(path, &bytes),
            _ => Ok(()),
        }
    }

    /// Warns if the installed `/init` does not run on the processor for which the image is.
    fn warn_about_platform(&self, source: &SourceKind) {
        let Some(platform) = source.platform() else { return };
        let host = Platform::host();
        if matches!(self.init, Some(None)) && host.architecture != platform.architecture {
            log::warn!(
                "the image is for {platform}, but --init adds the /init for {host}: give --init=FILE"
            );
        }
    }

    /// Owners on the host matter for the source, and for an image that is a directory.
    fn sources(&self, output: &Path, format: Format, reading: &ReadOptions) -> Result<Sources> {
        let output = (format == Format::Dir).then(|| directory(output));
        let written: Vec<_> = output.as_deref().into_iter().collect();
        let sources = Sources::new(&[&self.source], &written, reading.clone(), &self.pull)?;
        Ok(match format {
            Format::OciArchive => sources.with_own_options(&[PullArguments::PLATFORM]),
            _ => sources,
        })
    }

    /// Output files that exist already. An earlier build may have left them in the source.
    fn outputs(&self, output: &Path) -> Vec<FileId> {
        let outputs = [Some(output), self.boot_initrd.as_deref()].into_iter().flatten();
        let existing = outputs.filter_map(existing);
        let may_hold = existing.filter(|found| found.is_file() || found.is_dir());
        may_hold.map(|found| FileId::of(&found)).collect()
    }

    /// Packs an initrd with the modules that find and mount a disk in `format`, and those of the
    /// power button, if the kernel has them.
    fn initrd(&self, source: &SourceKind, format: Format, init: &Path) -> Result<Vec<u8>> {
        let kind = format.file_system();
        let kind = kind.with_context(|| format!("--boot-initrd: {format} is no disk"))?;
        let (root, dir) = match &self.kernel_modules {
            Some(dir) => (RootDir::open(Path::new("/"))?, absolute(dir)?),
            None => {
                let hint = "--boot-initrd: give --kernel-modules DIR";
                ensure!(
                    matches!(source, SourceKind::Plain(Format::Dir)),
                    "{hint}: SOURCE is no directory"
                );
                let root = RootDir::open(Path::new(&self.source))?;
                let newest = installed::installed(&root)?.into_iter().next();
                let newest = newest.with_context(|| format!("{hint}: SOURCE has no modules"))?;
                (root, newest.modules)
            }
        };
        let of_kernel = Located { root: Rc::new(root), path: dir };
        let mut modules = vec!["virtio_blk", kind, "overlay"];
        modules.extend(POWER_BUTTON.iter().filter(|name| has_module(name, Some(&of_kernel), true)));
        let choice = pack::ModuleSelection {
            modules: modules.into_iter().map(str::to_owned).collect(),
            no_virtiofs: true,
            ..pack::ModuleSelection::default()
        };
        let mut notes = Vec::new();
        let from = Some((&*of_kernel.root, &*of_kernel.path));
        let initrd = pack::initrd(pack::read_init(init)?, from, &choice, &mut notes)?;
        warn_all(&notes);
        Ok(initrd)
    }
}
