//! What SOURCE and IMAGE name, and how it is opened. This is the only place that decides.
//!
//! | Word | Opened as |
//! |---|---|
//! | `oci:REF`, `docker://REF`, `oci-layout:…`, `oci-archive:…`, `docker-archive:…` | OCI image ([`oci::name::location`]) |
//! | `-` | the archive of an OCI image, or any other file, by its contents |
//! | a path | a layout or archive of an OCI image, or any other directory or file, by its contents |
//!
//! [`locations`] has the words and the hints.

use std::cell::{Cell, OnceCell};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;
use image::format::Format;
use image::source::xattr_policy::{self, Origin};
use image::source::{self, ReadOptions, Source};
use image::tree::Tree;
use nix::unistd::dup2_stdin;
use oci::cache::Cache;
use oci::document::config::Process;
use oci::image::{Image, OpenOptions};
use oci::local::{self, ArchiveKind};
use oci::name::location::{Location, Selector};
use oci::name::platform::Platform;

use super::see_owners_as_the_guest;
use crate::line::locations;
use crate::logger::warn_all;
use crate::pull::progress::LayerProgress;
use crate::pull::{PullArguments, explain_size};

/// The word for standard input.
const STDIN: &str = "-";

/// A source that was opened. Of an OCI image, no layer was read yet.
#[derive(Debug)]
pub(super) enum Opened {
    /// A directory, an archive or a disk image.
    Plain(Source),
    /// An OCI image.
    Oci(Box<OciSource>),
}

/// An OCI image, and how it is read.
#[derive(Debug)]
pub(super) struct OciSource {
    pub(super) image: Image,
    is_remote: bool,
}

/// A source whose tree was read.
#[derive(Debug)]
pub(super) struct ReadSource {
    /// The tree. Contents of files are read from the source when they are needed.
    pub(super) tree: Tree,
    /// What the tree was read from.
    pub(super) kind: SourceKind,
}

/// What a tree was read from.
#[derive(Debug)]
pub(super) enum SourceKind {
    /// A directory, an archive or a disk image.
    Plain(Format),
    /// An OCI image.
    Oci(Box<Image>),
    /// What instructions have made.
    Built(Box<BuiltImage>),
}

/// An image that was built on another one, or on nothing.
#[derive(Debug)]
pub(super) struct BuiltImage {
    /// The image on which it was built.
    pub(super) base: Option<Box<Image>>,
    /// Its command and surroundings.
    pub(super) process: Process,
    /// Its platform.
    pub(super) platform: Platform,
}

impl SourceKind {
    /// The OCI image, if it is one, or the one on which it was built.
    pub(super) fn image(&self) -> Option<&Image> {
        match self {
            Self::Plain(_) => None,
            Self::Oci(image) => Some(image),
            Self::Built(built) => built.base.as_deref(),
        }
    }

    /// The command of an image and its surroundings.
    pub(super) fn process(&self) -> Option<&Process> {
        match self {
            Self::Plain(_) => None,
            Self::Oci(image) => Some(&image.config.process),
            Self::Built(built) => Some(&built.process),
        }
    }

    /// The platform of an image.
    pub(super) fn platform(&self) -> Option<&Platform> {
        match self {
            Self::Plain(_) => None,
            Self::Oci(image) => Some(&image.config.platform),
            Self::Built(built) => Some(&built.platform),
        }
    }

    /// The format for people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Plain(format) => format.to_string(),
            Self::Oci(_) | Self::Built(_) => "OCI image".into(),
        }
    }
}

/// The sources of one command line, and how they are opened.
#[derive(Debug)]
pub(super) struct Sources {
    reading: ReadOptions,
    pull: PullArguments,
    is_cached: bool,
    /// Number of words that may still turn out to be OCI images, for which the options of images
    /// are; `None` once one is.
    candidates: Cell<Option<usize>>,
    /// Options that mean something without an OCI image, too.
    own_options: &'static [&'static str],
    /// Options of OCI images, once the first one is opened.
    images: OnceCell<OpenOptions>,
}

impl Sources {
    /// Prepares for opening `words`. If one of them, or of the directories `others`, is a
    /// directory of the user, files will have the owners that a guest sees. Call it before the
    /// program has threads ([`see_owners_as_the_guest`]). The limit of sizes is that of `pull`.
    ///
    /// # Errors
    /// Two things would read standard input; those of [`see_owners_as_the_guest`].
    pub(super) fn new(
        words: &[&OsStr],
        others: &[&Path],
        reading: ReadOptions,
        pull: &PullArguments,
    ) -> Result<Self> {
        let inputs = words.iter().filter(|word| reads_stdin(word)).count();
        ensure!(inputs <= 1, "standard input can be read only once");
        ensure!(
            inputs == 0 || !pull.reads_stdin(),
            "--creds: give USER:PASSWORD, because standard input is the image"
        );
        let plain = words.iter().map(Path::new).filter(|path| !local::is_layout(path));
        let paths: Vec<_> = plain.chain(others.iter().copied()).collect();
        see_owners_as_the_guest(&paths)?;
        let reading = ReadOptions { max_size: pull.max_size(), ..reading };
        Ok(Self {
            reading,
            pull: pull.clone(),
            is_cached: true,
            candidates: Cell::new(Some(words.len())),
            own_options: &[],
            images: OnceCell::new(),
        })
    }

    /// Permits the options `own` even if no source is an OCI image.
    pub(super) fn with_own_options(mut self, own: &'static [&'static str]) -> Self {
        self.own_options = own;
        self
    }

    /// Reads all layers from where they come from, as if nothing were kept.
    pub(super) fn without_cache(mut self) -> Self {
        self.is_cached = false;
        self
    }

    /// Opens `word`.
    ///
    /// # Errors
    /// A location that is none, or that does not exist; a source in an unknown format, a damaged
    /// one, or one that is too large; options of OCI images, and no word is one.
    pub(super) fn open(&self, word: &OsStr, notes: &mut Notes) -> Result<Opened> {
        self.open_any(word, notes).map_err(explain_size)
    }

    fn open_any(&self, word: &OsStr, notes: &mut Notes) -> Result<Opened> {
        match self.location(word)? {
            Some(location) => {
                self.candidates.set(None);
                let is_remote = matches!(location, Location::Registry(_));
                let image = oci::image::open(&location, self.images()?)?;
                Ok(Opened::Oci(Box::new(OciSource { image, is_remote })))
            }
            None => {
                self.refuse_options(word)?;
                source::open(Path::new(word), &self.reading, notes).map(Opened::Plain)
            }
        }
    }

    /// Refuses options of OCI images if `word`, which is none, was the last that could be one.
    fn refuse_options(&self, word: &OsStr) -> Result<()> {
        let candidates = self.candidates.get().map(|count| count.saturating_sub(1));
        self.candidates.set(candidates);
        let mut given = self.pull.given().filter(|option| !self.own_options.contains(option));
        match given.next().filter(|_| candidates == Some(0)) {
            Some(option) => {
                let word = word.display();
                bail!("{option} is for OCI images, such as oci:NAME, and {word} is none")
            }
            None => Ok(()),
        }
    }

    /// The OCI image that `word` names; `None` if it names something else.
    fn location(&self, word: &OsStr) -> Result<Option<Location>> {
        if word != STDIN {
            return locations::locate(word, self.reading.max_size);
        }
        let file = self.stdin().context("read standard input")?;
        Ok(local::recognise_file(&file, self.reading.max_size).map(|kind| match kind {
            ArchiveKind::Oci => Location::OciArchive(STDIN.into(), Selector::Only),
            ArchiveKind::Docker => Location::DockerArchive(STDIN.into(), None),
        }))
    }

    /// Standard input as a file that can be read by offset. A pipe is copied, and the copy becomes
    /// standard input.
    fn stdin(&self) -> Result<File> {
        let stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let file = source::seekable(stdin, self.reading.max_size)?;
        dup2_stdin(&file).context("replace standard input by a copy of it")?;
        Ok(file)
    }

    fn images(&self) -> Result<&OpenOptions> {
        if let Some(options) = self.images.get() {
            return Ok(options);
        }
        let mut options = self.pull.open_options()?;
        if !self.is_cached {
            options.cache = Arc::new(Cache::unkept());
        }
        Ok(self.images.get_or_init(|| options))
    }

    /// Reads the tree of `opened`; of an OCI image, this fetches the layers.
    ///
    /// # Errors
    /// A layer that is damaged, too large, or that cannot be fetched.
    pub(super) fn tree(&self, opened: Opened, notes: &mut Notes) -> Result<ReadSource> {
        let OciSource { image, is_remote } = match opened {
            Opened::Plain(Source { tree, format, .. }) => {
                return Ok(ReadSource { tree, kind: SourceKind::Plain(format) });
            }
            Opened::Oci(source) => *source,
        };
        let progress = LayerProgress::new(is_remote);
        let mut tree = image.tree(notes, &progress).map_err(explain_size)?;
        let ReadOptions { xattrs, xattrs_hint, .. } = &self.reading;
        xattr_policy::apply(&mut tree, xattrs, Origin::Content, xattrs_hint, notes);
        Ok(ReadSource { tree, kind: SourceKind::Oci(Box::new(image)) })
    }

    /// Opens `word`, reads its tree, and logs the warnings.
    ///
    /// # Errors
    /// Those of [`Self::open`] and [`Self::tree`].
    pub(super) fn read(&self, word: &OsStr) -> Result<ReadSource> {
        let mut notes = Notes::default();
        let opened = self.open(word, &mut notes)?;
        let source = self.tree(opened, &mut notes)?;
        warn_all(notes.lines());
        Ok(source)
    }
}

/// Whether the source `word` is standard input.
fn reads_stdin(word: &OsStr) -> bool {
    let path = match Location::parse(word) {
        Ok(Some(Location::OciArchive(path, _) | Location::DockerArchive(path, _))) => path,
        _ => word.into(),
    };
    path.as_os_str() == STDIN
}
