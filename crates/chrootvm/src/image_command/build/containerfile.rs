//! Containerfiles as a source of `chrootvm image build`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use archive::compress::Method;
use archive::source_date_epoch;
use files::notes::Notes;
use image::format::Format;
use machine::host;
use machine::kernel::initrd::find_init;
use oci::name::reference::Reference;

use super::super::recipe::containerfile::{
    BuildContainerfile, WantedLayers, is_name_of_containerfile,
};
use super::super::recipe::{KeptOutput, Key, may_be_kept, newest};
use super::{BuildImage, Given};

/// Paths of a Containerfile and of its context.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Paths {
    /// The file, or `-` for standard input.
    file: PathBuf,
    /// The directory with files for COPY and ADD.
    context: PathBuf,
}

/// Names of the Containerfile of a directory.
const USUAL: [&str; 2] = ["Containerfile", "Dockerfile"];

/// Tells a user of another builder that a directory is not its Containerfile.
pub(super) fn tell_apart(source: &Path) {
    let found = USUAL.iter().map(|name| source.join(name)).find(|path| path.is_file());
    if let Some(path) = found {
        log::info!(
            "the image has the files of {}; to build its Containerfile, give {}",
            source.display(),
            path.display()
        );
    }
}

impl BuildImage {
    /// The Containerfile that the command line names: by `--file`, or by a source that is a file of
    /// such a name.
    ///
    /// # Errors
    /// `--file` is given, and the source is no directory.
    pub(super) fn paths_of_containerfile(&self) -> Result<Option<Paths>> {
        let source = Path::new(&self.source);
        if let Some(file) = self.containerfile.file() {
            let shown = source.display();
            ensure!(source.is_dir(), "--file: the context {shown} is no directory");
            return Ok(Some(Paths { file: file.into(), context: source.into() }));
        }
        if !is_name_of_containerfile(source) || !source.is_file() {
            return Ok(None);
        }
        let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty());
        let context = parent.unwrap_or(Path::new(".")).to_path_buf();
        Ok(Some(Paths { file: source.into(), context }))
    }

    /// Builds the image of a Containerfile, or shows its steps.
    pub(super) fn write_containerfile(
        &self,
        paths: &Paths,
        init_path: Option<PathBuf>,
    ) -> Result<()> {
        if let Some(option) = self.recipe.first_of_recipes() {
            bail!("{option} is for recipes, and {} is a Containerfile", paths.file.display());
        }
        let start = Instant::now();
        let is_shown = self.recipe.is_dry_run();
        let output = match &self.output {
            Some(output) => Some((output.as_path(), self.format.choose(output)?)),
            None if is_shown => None,
            None => bail!("which file? Give -o FILE"),
        };
        let is_tag_used = output.is_none_or(|(_, (format, _))| format == Format::OciArchive);
        ensure!(
            is_tag_used || self.containerfile.tag().is_none(),
            "--tag is for OCI archives: -o FILE.oci.tar"
        );
        if let Some(tag) = self.containerfile.tag() {
            Reference::for_new_image(tag).with_context(|| format!("--tag {tag}"))?;
        }
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let given_time = epoch.as_deref().map(|text| source_date_epoch(Some(text))).transpose()?;
        let build = BuildContainerfile {
            file: &paths.file,
            context: &paths.context,
            options: &self.containerfile,
            of_recipes: &self.recipe,
            pull: &self.pull,
            left_out: output.map(|(path, _)| self.outputs(path)).unwrap_or_default(),
        };
        let source = build.read()?;
        let ready = build.prepare(&source)?;
        if is_shown {
            return ready.tell_steps();
        }
        let (path, chosen) = output.context("which file? Give -o FILE")?;
        let store = ready.store().clone();
        let key = match self.may_be_kept(path, chosen.0) {
            true => Some(self.key(ready.key(), chosen, given_time, init_path.as_deref())?),
            false => None,
        };
        let kept = key.map(|key| KeptOutput { path, format: chosen.0, key });
        if let Some(kept) = &kept
            && !self.recipe.is_without_cache()
            && kept.copy(&store)?
        {
            return Ok(());
        }
        let wanted = match (chosen.0, self.containerfile.is_squashed()) {
            (Format::OciArchive, false) => WantedLayers::Each,
            (Format::OciArchive, true) => WantedLayers::Squashed,
            _ => WantedLayers::None,
        };
        let (source, layers) = ready.build(wanted)?;
        let mtime = given_time.unwrap_or_else(|| newest(&source.tree));
        let given = Given { source, reading: self.reading.options()?, mtime, epoch, layers, start };
        self.finish(given, path, chosen, init_path, Notes::default())?;
        if let Some(kept) = kept {
            kept.keep(&store);
        }
        Ok(())
    }

    /// Whether the output can be kept: it is made of nothing but the Containerfile and options.
    fn may_be_kept(&self, path: &Path, format: Format) -> bool {
        may_be_kept(path, format) && !self.edits.is_given() && self.boot_initrd.is_none()
    }

    /// Names the output.
    fn key(
        &self,
        image: Key,
        chosen: (Format, Method),
        time: Option<u32>,
        init: Option<&Path>,
    ) -> Result<Key> {
        // The program that writes the output decides about its bytes.
        let program = host::identity(&std::env::current_exe().context("find this program")?)?;
        let init = match &self.init {
            Some(given) => host::identity(&find_init(given.as_deref().or(init))?)?,
            None => Vec::new(),
        };
        let (tag, is_squashed) = (self.containerfile.tag(), self.containerfile.is_squashed());
        let options = format!(
            "{chosen:?} {:?} {:?} {:?} {tag:?} {is_squashed} {time:?}",
            self.format, self.workload, self.reading
        );
        Ok(image.then(&[b"output", options.as_bytes(), &init, &program]))
    }
}
