//! COPY, ADD and WORKDIR.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use image::edit::copy::{self, Entry, Rule};
use image::edit::select::Selected;
use image::format::{self, Format};
use image::source::{self, ReadOptions};
use image::tree::{Content, Kind, Meta, Tree, components, directory, show};
use recipe::containerfile::{CopyMode, FileKind, Unpack};

use super::super::super::write::user;
use super::super::package::WrongRecipe;
use super::super::package::inputs::Input;
use super::super::package::planned::{Copy, CopySource};
use super::edits::{Editor, only_file};
use crate::logger::warn_all;

/// Permissions of a file that ADD downloads, as docker has it.
const OF_DOWNLOAD: u16 = 0o600;

/// Permissions of a directory that WORKDIR makes.
const OF_DIRECTORY: u16 = 0o755;

/// First bytes of what bzip2 has compressed.
const BZIP2: &[u8; 3] = b"BZh";

/// A source of a copy that was read.
enum Source {
    Plain(Selected),
    /// Tar archive.
    Archive(Tree),
}

impl Editor<'_> {
    /// Copies files.
    ///
    /// # Errors
    /// Nothing to copy; an owner that the tree does not have; a file in the place of a directory,
    /// or the other way round.
    pub(super) fn copy(&self, tree: &mut Tree, step: &Copy) -> Result<()> {
        let owner = step.owner.as_deref();
        let owner = owner.map(|owner| owner_in(tree, Some(owner))).transpose()?;
        let mut sources = Vec::new();
        for source in &step.sources {
            match source {
                CopySource::Files(files) => {
                    for input in files.inputs(self.select)? {
                        sources.push(opened(input, step.unpack)?);
                    }
                }
                CopySource::Url { url, sha256 } => {
                    let mut input = self.download(url, sha256)?;
                    input.set_time(self.time);
                    input.set_permissions(OF_DOWNLOAD);
                    sources.push(opened(input, step.unpack)?);
                }
            }
        }
        ensure!(!sources.is_empty(), "nothing to copy: no file matches");
        let change = |mode: u16, entry: Entry| match &step.mode {
            Some(change) => changed(change, mode, entry),
            None => mode,
        };
        let rule = Rule {
            owner,
            mode: step.mode.is_some().then_some(&change),
            mtime_of_new_directories: self.time,
        };
        // With several sources, the destination is a directory.
        let mut to = step.to.clone();
        if sources.len() > 1 && !to.ends_with('/') {
            to.push('/');
        }
        for source in sources {
            match source {
                Source::Archive(archive) => copy::unpack(tree, to.as_bytes(), &archive, &rule)?,
                Source::Plain(selected) => {
                    self.put.borrow_mut().extend(copy::copy(
                        tree,
                        to.as_bytes(),
                        &[selected],
                        &rule,
                    )?);
                }
            }
        }
        Ok(())
    }

    /// Makes the directory at `path` and those above it that are missing.
    ///
    /// # Errors
    /// A file in the place of a directory; an owner that the tree does not have.
    pub(super) fn working_directory(
        &self,
        tree: &mut Tree,
        path: &str,
        owner: Option<&str>,
    ) -> Result<()> {
        let owner = owner_in(tree, owner)?;
        let names: Vec<&[u8]> = components(path.as_bytes()).collect();
        let (uid, gid) = owner;
        for count in 1..=names.len() {
            let part = names[..count].join(&b'/');
            if tree.find_directory(&part).is_some() {
                continue;
            }
            let parent = tree.make_directories(&names[..count - 1].join(&b'/'))?;
            let name = names[count - 1];
            ensure!(tree.child(parent, name).is_none(), "{} is no directory", show(&part));
            let meta =
                Meta { permissions: OF_DIRECTORY, uid, gid, mtime: self.time, ..Meta::default() };
            tree.add(parent, name, meta, directory())?;
        }
        Ok(())
    }
}

/// User and group of `owner` in the accounts of the image.
fn owner_in(tree: &Tree, owner: Option<&str>) -> Result<(u32, u32)> {
    let found = user::owner(tree, owner);
    found.map_err(|error| WrongRecipe(format!("{error:#}; make it by RUN, or use a number")).into())
}

/// The permissions of an entry after `--chmod`.
fn changed(change: &CopyMode, mode: u16, entry: Entry) -> u16 {
    match (change, entry) {
        // As BuildKit: only an octal mode is that of directories that the destination lacks.
        (CopyMode::Symbolic(_), Entry::Missing) => mode,
        (_, Entry::File) => change.apply(mode, FileKind::File),
        (_, Entry::Directory | Entry::Missing) => change.apply(mode, FileKind::Directory),
    }
}

fn selected(input: Input) -> Selected {
    let Input { name, tree, is_directory, .. } = input;
    Selected { name, tree, is_directory }
}

/// An input, which may be an archive that is to be unpacked.
fn opened(input: Input, unpack: Unpack) -> Result<Source> {
    let is_file =
        !input.is_directory && input.tree.nodes().any(|node| matches!(node.kind, Kind::File(_)));
    if unpack == Unpack::No || !is_file {
        return Ok(Source::Plain(selected(input)));
    }
    let content = only_file(&input)?.content;
    Ok(match archive(&content).with_context(|| show(&input.name))? {
        Some(archive) => Source::Archive(archive),
        None => Source::Plain(selected(input)),
    })
}

/// The tree of a tar archive; `None` for another file.
fn archive(content: &Content) -> Result<Option<Tree>> {
    let file = as_file(content)?;
    if !matches!(format::recognise(&file), Ok(Format::Tar(_))) {
        let mut magic = [0; BZIP2.len()];
        if content.open()?.read_exact(&mut magic).is_ok() && magic == *BZIP2 {
            log::warn!("an archive that bzip2 has compressed is copied as it is, not unpacked");
        }
        return Ok(None);
    }
    let mut notes = Notes::default();
    let tree = source::read_file(file, &ReadOptions::default(), &mut notes)?.tree;
    warn_all(notes.lines());
    Ok(Some(tree))
}

/// The bytes of a content as a file of their own.
fn as_file(content: &Content) -> Result<File> {
    if let Content::Part { archive, offset: 0, size } = content
        && archive.metadata().is_ok_and(|found| found.len() == *size)
    {
        return Arc::clone(archive).try_clone().context("open it again");
    }
    let mut file = tempfile::tempfile().context("make a temporary file")?;
    io::copy(&mut content.open()?, &mut file).context("copy it")?;
    file.rewind().context("read it again")?;
    Ok(file)
}
