//! The tree with which a recipe begins.
//!
//! Opening a base finds out which one it is, and reads no more than that takes: of an OCI image
//! its documents, of a file or a directory what is needed for a digest. The tree is read when a
//! step or an output needs it, from the source, or from what an earlier build has kept of it.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use image::erofs;
use image::format::Format;
use image::source::{self, ReadOptions, SIZE_MAX};
use image::tree::Tree;
use oci::document::config::Process;
use oci::image::Image;
use oci::name::platform::Platform;
use recipe::{Base, From};

use super::super::super::options::reading;
use super::super::super::sources::{Opened, ReadSource, SourceKind, Sources};
use super::super::kept::key::{Key, hex};
use super::super::kept::store::{Kind, Store, write_image};
use super::super::package::Package;
use super::super::package::inputs::{digest, file_digest, remembered};
use super::super::package::lockfile::{Pin, Resolved};
use crate::line::locations::locate;
use crate::logger::warn_all;
use crate::pull::PullArguments;

/// A base that is known, but may not have been read.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct OpenBase {
    /// Names the base; `None` for an empty tree.
    pub(in crate::image_command::recipe) key: Option<Key>,
    word: OsString,
    /// The base, if it is a file or a directory.
    plain: Option<Base>,
    sources: Option<Sources>,
    opened: Option<Opened>,
    /// The image and its tree, once they were read.
    read: Option<(Tree, Option<Box<Image>>)>,
}

impl OpenBase {
    /// Opens the base of `package`, which is the lowest of its chain. `pin` is asked for an image
    /// of a registry, with its name and platform.
    ///
    /// # Errors
    /// The base does not exist, or has another digest than the recipe says; a registry that does
    /// not answer.
    pub(in crate::image_command::recipe) fn open(
        package: &Package,
        pull: &PullArguments,
        store: &Store,
        pin: &dyn Fn(&str, &str) -> Result<Pin>,
    ) -> Result<(Self, Option<Resolved>)> {
        let From { base, platform, digest } = &package.recipe.from;
        let platform: Option<Platform> = match platform {
            Some(text) => Some(text.parse().with_context(|| format!("from.platform: {text}"))?),
            None => pull.platform().cloned(),
        };
        let pull = pull.clone().with_platform(platform.clone());
        let platform = platform.unwrap_or_else(Platform::host).to_string();
        let Base::Oci(name) = base else {
            let of_host = |path: &Path| package.of_host(path);
            return Ok((Self::open_source(base, digest.as_deref(), &of_host, &pull, store)?, None));
        };
        let (word, pull) = match pin(name, &platform)? {
            Pin::Digest(digest) => (pinned(name, &digest), pull),
            Pin::Open => (name.clone(), pull),
            Pin::Ask => (name.clone(), pull.asking()),
        };
        let mut open = Self::of_word(format!("oci:{word}").into(), &pull)?;
        let digest = open.identify_image()?;
        Ok((open, Some(Resolved { name: name.clone(), platform, digest })))
    }

    /// Opens a base. `of_host` finds files of the host.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(in crate::image_command::recipe) fn open_source(
        base: &Base,
        digest: Option<&str>,
        of_host: &dyn Fn(&Path) -> PathBuf,
        pull: &PullArguments,
        store: &Store,
    ) -> Result<Self> {
        let local = |prefix: &str, rest: &str| {
            let mut word = OsString::from(prefix);
            word.push(of_host(rest.as_ref()));
            word
        };
        let word = match base {
            Base::Empty | Base::Recipe(_) => return Ok(Self::empty()),
            Base::Oci(name) => format!("oci:{name}").into(),
            Base::OciLayout(rest) => local("oci-layout:", rest),
            Base::OciArchive(rest) => local("oci-archive:", rest),
            Base::DockerArchive(rest) => local("docker-archive:", rest),
            Base::Image(path) | Base::Tar(path) | Base::Dir(path) => of_host(path).into(),
        };
        let mut open = Self::of_word(word, pull)?;
        match base {
            Base::Image(_) | Base::Tar(_) | Base::Dir(_) => {
                open.identify_file(base, digest, store)?;
                open.plain = Some(base.clone());
            }
            _ => drop(open.identify_image()?),
        }
        Ok(open)
    }

    /// The base that a SOURCE of the command line names, before it is identified.
    fn of_word(word: OsString, pull: &PullArguments) -> Result<Self> {
        let sources = Sources::new(&[&word], &[], reading(), pull)?;
        let sources = sources.with_own_options(&[PullArguments::PLATFORM]);
        Ok(Self { key: None, word, plain: None, sources: Some(sources), opened: None, read: None })
    }

    /// An empty tree.
    pub(in crate::image_command::recipe) fn empty() -> Self {
        Self {
            key: None,
            word: OsString::new(),
            plain: None,
            sources: None,
            opened: None,
            read: None,
        }
    }

    /// Finds the digest of a file or a directory.
    fn identify_file(&mut self, base: &Base, wanted: Option<&str>, store: &Store) -> Result<()> {
        let path = Path::new(&self.word);
        let kind = locate(&self.word, SIZE_MAX)?;
        ensure!(
            kind.is_none(),
            "{} is an OCI image: write from.oci-layout, from.oci-archive or from.docker-archive",
            path.display()
        );
        let metadata = path.metadata().with_context(|| format!("find {}", path.display()))?;
        let shown = path.display();
        if let Base::Dir(_) = base {
            ensure!(metadata.is_dir(), "from.dir: {shown} is no directory");
            let compute = || {
                let read = source::open(path, &ReadOptions::default(), &mut Notes::default())?;
                digest(&read.tree)
            };
            let found = remembered(path, store, &compute)?;
            self.key = Some(Key::first(&[b"directory", &found]));
            return Ok(());
        }
        ensure!(metadata.is_file(), "{shown} is no file; a directory is written from.dir");
        let found = file_digest(path, store).with_context(|| format!("read {shown}"))?;
        let text = hex(&found);
        if let Some(wanted) = wanted {
            ensure!(
                wanted == format!("sha256:{text}"),
                "{shown}: its digest is sha256:{text}, and the recipe says {wanted}"
            );
        }
        if let Base::Tar(_) = base {
            let file = File::open(path).with_context(|| format!("open {shown}"))?;
            let format = image::format::recognise(&file)?;
            ensure!(
                matches!(format, Format::Tar(_)),
                "from.tar: {shown} is {format}; another image is written from.image"
            );
        }
        self.key = Some(Key::first(&[b"file", &found]));
        Ok(())
    }

    /// Reads the documents of an OCI image. Returns the digest of its manifest.
    fn identify_image(&mut self) -> Result<String> {
        let sources = self.sources.as_ref().context("the base has no source")?;
        let opened = sources.open(&self.word, &mut Notes::default())?;
        let Opened::Oci(source) = &opened else {
            anyhow::bail!("{} is no OCI image", self.word.display());
        };
        let image = &source.image;
        let (config, manifest) =
            (image.config_digest.to_string(), image.manifest_digest.to_string());
        self.key = Some(Key::first(&[b"image", config.as_bytes()]));
        self.opened = Some(opened);
        Ok(manifest)
    }

    /// The command of an OCI image and its surroundings.
    pub(in crate::image_command::recipe) fn process(&self) -> Option<&Process> {
        match (&self.opened, &self.read) {
            (Some(Opened::Oci(source)), _) => Some(&source.image.config.process),
            (_, Some((_, Some(image)))) => Some(&image.config.process),
            _ => None,
        }
    }

    /// The OCI image that the base is.
    pub(in crate::image_command::recipe) fn image(&self) -> Option<&Image> {
        match (&self.opened, &self.read) {
            (Some(Opened::Oci(source)), _) => Some(&source.image),
            (_, Some((_, image))) => image.as_deref(),
            _ => None,
        }
    }

    /// Likewise, without the rest.
    pub(in crate::image_command::recipe) fn into_image(self) -> Option<Box<Image>> {
        match (self.opened, self.read) {
            (Some(Opened::Oci(source)), _) => Some(Box::new(source.image)),
            (_, Some((_, image))) => image,
            _ => None,
        }
    }

    /// The tree of the base.
    ///
    /// # Errors
    /// The source is damaged, too large, or cannot be fetched.
    pub(in crate::image_command::recipe) fn tree(&mut self, store: &Store) -> Result<Tree> {
        let Some(key) = &self.key else { return Ok(Tree::new(root_meta())) };
        if let Some((tree, _)) = &self.read {
            return Ok(tree.clone());
        }
        if let Some(kept) = store.open(Kind::Base, key) {
            return erofs::read(Arc::new(kept)).context("read what is kept of the base");
        }
        let sources = self.sources.as_ref().context("the base has no source")?;
        let mut notes = Notes::default();
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => sources.open(&self.word, &mut notes)?,
        };
        let ReadSource { tree, kind } = sources.tree(opened, &mut notes)?;
        warn_all(notes.lines());
        let image = match kind {
            SourceKind::Oci(image) => Some(image),
            SourceKind::Plain(_) | SourceKind::Built(_) => None,
        };
        if let Some(base) = self.plain.clone() {
            let before = self.key;
            self.identify_file(&base, None, store)?;
            ensure!(self.key == before, "{} has changed during the build", self.word.display());
        }
        self.read = Some((tree.clone(), image));
        Ok(tree)
    }

    /// The tree as an image for machines, and the tree that reads from it.
    ///
    /// # Errors
    /// Those of [`Self::tree`]; the image cannot be written.
    pub(in crate::image_command::recipe) fn disk(
        &mut self,
        store: &Store,
    ) -> Result<Option<(File, Tree)>> {
        let Some(key) = self.key else { return Ok(None) };
        let file = match store.open(Kind::Base, &key) {
            Some(file) => file,
            None => {
                let tree = self.tree(store)?;
                store.keep(Kind::Base, &key, &mut |file| write_image(&tree, file))?
            }
        };
        let tree = erofs::read(Arc::new(file.try_clone()?)).context("read the base")?;
        Ok(Some((file, tree)))
    }
}

/// Metadata of the root of an empty tree.
pub(in crate::image_command::recipe) fn root_meta() -> image::tree::Meta {
    image::tree::Meta { permissions: 0o755, ..image::tree::Meta::default() }
}

/// The reference `name` with a digest in place of its tag.
fn pinned(name: &str, digest: &str) -> String {
    let at = name.find('@').unwrap_or(name.len());
    let name = &name[..at];
    // A colon before the last slash belongs to a port.
    let tag = name.rfind(':').filter(|&colon| !name[colon..].contains('/'));
    format!("{}@{digest}", &name[..tag.unwrap_or(name.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_takes_the_place_of_the_tag() {
        for (name, expected) in [
            ("debian", "debian@D"),
            ("debian:12", "debian@D"),
            ("localhost:5000/a/b", "localhost:5000/a/b@D"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b@D"),
            ("a@sha256:0", "a@D"),
        ] {
            assert_eq!(pinned(name, "D"), expected);
        }
    }
}
