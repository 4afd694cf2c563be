//! The files of a package, collected from the directory of its recipe.
//!
//! Links on the way to a file are members, too, so every path of the recipe leads to the same file
//! as before.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;
use files::output::existing;
use files::root_dir::RootDir;
use image::source::{self, FileId, ReadOptions};
use image::tree::{Content, HostDirectory, Id, Kind, Meta, Tree, directory};

use super::super::package::Package;
use super::rules::{self, LOCK, RECIPE};
use crate::logger::warn_all;

/// Most symbolic links on the way to a file (`MAXSYMLINKS`, `include/linux/namei.h`).
const LINKS_MAX: usize = 40;

const XATTRS: &str = "extended attributes are left out of a package";

/// Collects files into a tree.
pub(super) struct Collector<'a> {
    /// The package whose directory is the root of the tree.
    top: &'a Package,
    root: Arc<RootDir>,
    tree: Tree,
    reading: ReadOptions,
    notes: Notes,
}

impl<'a> Collector<'a> {
    /// A collector that has the recipe of `top` and its lock file. If `output` exists, it is no
    /// part of the package.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn new(top: &'a Package, output: &Path) -> Result<Self> {
        let left_out = existing(output).iter().map(FileId::of).collect();
        let mut collector = Self {
            top,
            root: Arc::new(RootDir::open(&top.dir)?),
            tree: Tree::new(Meta::default()),
            reading: ReadOptions { left_out, ..ReadOptions::default() },
            notes: Notes::default(),
        };
        let bytes = top.text()?;
        collector.put(RECIPE.as_ref(), Meta::default(), file(bytes.into_bytes().into()))?;
        let lock = top.path().with_extension("lock");
        if lock.exists() {
            let bytes = fs::read(&lock).with_context(|| format!("read {}", lock.display()))?;
            collector.put(LOCK.as_ref(), Meta::default(), file(bytes.into()))?;
        }
        Ok(collector)
    }

    /// The tree of the package.
    pub(super) fn finish(self) -> Tree {
        warn_all(self.notes.lines());
        self.tree
    }

    /// Adds the file or directory at `path` of `package`.
    ///
    /// # Errors
    /// It cannot be read; a link on the way leads out of the package, or could.
    pub(super) fn add(&mut self, package: &Package, path: &Path) -> Result<()> {
        let prefix = package.dir.strip_prefix(&self.top.dir);
        let prefix = prefix.context("the recipe is not below the directory of the package")?;
        let real = self.follow(&prefix.join(path))?;
        let found = self.top.dir.join(&real);
        let metadata = found.metadata().with_context(|| format!("look at {}", found.display()))?;
        if metadata.is_dir() {
            return self.directory(&real);
        }
        ensure!(metadata.is_file(), "{} is neither a file nor a directory", real.display());
        let permissions = u16::try_from(metadata.mode() & 0o7777)?;
        let parent = real.parent().unwrap_or(Path::new(""));
        let content = Content::Host {
            directory: Arc::new(HostDirectory {
                root: Arc::clone(&self.root),
                path: parent.to_path_buf(),
            }),
            name: real.file_name().unwrap_or_default().as_bytes().into(),
            size: metadata.len(),
        };
        let meta = Meta { permissions, ..Meta::default() };
        self.insert(&real, meta, Kind::File(content)).map(drop)
    }

    /// Adds the links on the way to `path`, and returns the path without them.
    fn follow(&mut self, path: &Path) -> Result<PathBuf> {
        let mut at = PathBuf::new();
        let mut pending = reversed(path)?;
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                ensure!(at.pop(), "{} leads out of the package", path.display());
                continue;
            }
            let next = at.join(&name);
            let shown = || format!("find {}", next.display());
            let found = self.top.dir.join(&next);
            if !found.symlink_metadata().with_context(shown)?.is_symlink() {
                at = next;
                continue;
            }
            links += 1;
            ensure!(links <= LINKS_MAX, "{}: too many links", path.display());
            let target = fs::read_link(&found).with_context(shown)?;
            rules::check_link(next.as_os_str().as_bytes(), target.as_os_str().as_bytes())?;
            let kind = Kind::Symlink(target.as_os_str().as_bytes().into());
            self.insert(&next, Meta::default(), kind)?;
            pending.extend(reversed(&target)?);
        }
        Ok(at)
    }

    /// Adds a directory with everything below it.
    fn directory(&mut self, path: &Path) -> Result<()> {
        let host = self.top.dir.join(path);
        // Whoever checked the recipe has told what the notes say.
        let found = source::open(&host, &self.reading, &mut Notes::default())?.tree;
        // Files with several names, by their numbers in `found`.
        let mut names: HashMap<Id, Id> = HashMap::new();
        found.walk(&mut |below, id| {
            let node = found.node(id);
            let whole = path.join(OsStr::from_bytes(below));
            if !node.meta.xattrs.is_empty() {
                self.notes.add(XATTRS, whole.as_os_str().as_bytes());
            }
            if let Some(first) = names.get(&id) {
                if self.tree.find(whole.as_os_str().as_bytes()).is_none() {
                    self.tree.put_link(whole.as_os_str().as_bytes(), *first)?;
                }
                return Ok(());
            }
            let kind = match &node.kind {
                Kind::Directory(_) => directory(),
                kind => kind.clone(),
            };
            let meta = Meta { permissions: node.meta.permissions, ..Meta::default() };
            let own = self.insert(&whole, meta, kind)?;
            if node.names > 1 {
                names.insert(id, own);
            }
            Ok(())
        })
    }

    /// Adds one file of the package's directory, which may be there already.
    fn insert(&mut self, path: &Path, meta: Meta, kind: Kind) -> Result<Id> {
        self.check_name(path)?;
        match self.tree.find(path.as_os_str().as_bytes()) {
            Some(id) => Ok(id),
            None => self.put(path, meta, kind),
        }
    }

    fn put(&mut self, path: &Path, meta: Meta, kind: Kind) -> Result<Id> {
        self.tree.put(path.as_os_str().as_bytes(), meta, kind)
    }

    /// Checks that `path` has not the name that the recipe or its lock file gets.
    fn check_name(&self, path: &Path) -> Result<()> {
        let recipe = self.top.path();
        let own = match path.to_str() {
            Some(RECIPE) => recipe,
            Some(LOCK) => recipe.with_extension("lock"),
            _ => return Ok(()),
        };
        ensure!(
            self.top.dir.join(path) == own,
            "{} is another file than that of the recipe, which gets this name in the package: \
             rename one of them",
            path.display()
        );
        Ok(())
    }
}

/// The names of a path, the last one first.
fn reversed(path: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) | Component::ParentDir => {
                names.push(component.as_os_str().to_owned());
            }
            Component::RootDir | Component::Prefix(_) => {
                bail!("{} leads out of the package", path.display())
            }
        }
    }
    names.reverse();
    Ok(names)
}

fn file(bytes: Arc<[u8]>) -> Kind {
    Kind::File(Content::Bytes(bytes))
}
