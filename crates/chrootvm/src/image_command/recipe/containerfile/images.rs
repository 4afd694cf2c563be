//! The images that FROM and --from name, and the directories and images that the user has given a
//! name.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use image::source::FileId;
use image::tree::Tree;
use machine::host::absolute;
use oci::name::location::Location;
use oci::name::platform::Platform;
use recipe::Base;

use super::super::super::see_owners_as_the_guest;
use super::super::kept::store::Store;
use super::super::run::halt::lock;
use super::super::tree::base::OpenBase;
use super::context::Directory;
use crate::line::locations::locate;
use crate::pull::PullArguments;

/// A base that several stages may share.
pub(super) type SharedBase = Arc<Mutex<OpenBase>>;

/// Images and directories by name.
pub(super) struct Images<'a> {
    pull: &'a PullArguments,
    store: &'a Store,
    /// Bases by their names in `--build-context`.
    named: BTreeMap<&'a str, Base>,
    /// Those of them that are directories, for COPY.
    directories: BTreeMap<&'a str, Directory>,
    /// Opened bases by name and platform.
    opened: Mutex<HashMap<(String, Option<Platform>), SharedBase>>,
}

impl<'a> Images<'a> {
    /// The images of a build. `contexts` are the names of `--build-context`; files of `left_out` are
    /// in none of their directories. Call it before the program has threads ([`see_owners_as_the_guest`]).
    ///
    /// # Errors
    /// A name that is given twice; a source that does not exist.
    pub(super) fn new(
        contexts: &'a [(String, OsString)],
        left_out: &[FileId],
        pull: &'a PullArguments,
        store: &'a Store,
    ) -> Result<Self> {
        let (mut named, mut directories) = (BTreeMap::new(), BTreeMap::new());
        for (name, source) in contexts {
            let context = || format!("--build-context {name}={}", source.display());
            let base = base(source, pull.max_size()).with_context(context)?;
            if let Base::Dir(path) = &base {
                directories
                    .insert(name.as_str(), Directory::context(path, None, left_out.to_vec()));
            }
            let is_new = named.insert(name.as_str(), base).is_none();
            ensure!(is_new, "{}: the name is given twice", context());
        }
        let paths = named.values().filter_map(|base| match base {
            Base::Dir(path) => Some(path.as_path()),
            _ => None,
        });
        see_owners_as_the_guest(&paths.collect::<Vec<_>>())?;
        Ok(Self { pull, store, named, directories, opened: Mutex::default() })
    }

    /// The directory with this name, if there is one.
    pub(super) fn directory(&self, name: &str) -> Option<&Directory> {
        self.directories.get(name)
    }

    /// Opens the image with this name for a platform.
    ///
    /// # Errors
    /// There is no such image; a registry that does not answer.
    pub(super) fn open(&self, name: &str, platform: Option<&Platform>) -> Result<SharedBase> {
        let key = (name.to_owned(), platform.cloned());
        let mut opened = lock(&self.opened);
        if let Some(found) = opened.get(&key) {
            return Ok(Arc::clone(found));
        }
        let base = match self.named.get(name) {
            Some(base) => base.clone(),
            None => Base::Oci(name.to_owned()),
        };
        let pull = self.pull.clone().with_platform(platform.cloned());
        let base = OpenBase::open_source(&base, None, &Path::to_path_buf, &pull, self.store)?;
        let base = Arc::new(Mutex::new(base));
        opened.insert(key, Arc::clone(&base));
        Ok(base)
    }

    /// The tree of the image with this name.
    ///
    /// # Errors
    /// Those of [`Self::open`]; a layer that cannot be read.
    pub(super) fn tree(&self, name: &str) -> Result<Tree> {
        let base = self.open(name, None)?;
        let tree = lock(&base).tree(self.store);
        tree.with_context(|| name.to_owned())
    }
}

/// How a word for an image begins, and the base that it names.
type Row = (&'static str, fn(String) -> Base);

/// Words that name a file of the host behind the prefix.
const LOCAL: [Row; 3] = [
    ("oci-layout:", Base::OciLayout),
    ("oci-archive:", Base::OciArchive),
    ("docker-archive:", Base::DockerArchive),
];

/// Words that name an image of a registry; `docker-image://` is that of docker.
const REMOTE: [&str; 3] = ["oci:", "docker://", "docker-image://"];

/// The base that a SOURCE of the command line names, with an absolute path.
fn base(source: &OsStr, max_size: u64) -> Result<Base> {
    let text = |path: &Path| -> Result<String> {
        let path = absolute(path)?;
        path.to_str().map(str::to_owned).context("the path is not UTF-8")
    };
    let word = source.to_str().unwrap_or_default();
    if let Some(name) = REMOTE.iter().find_map(|prefix| word.strip_prefix(prefix)) {
        return Ok(Base::Oci(name.to_owned()));
    }
    let local = LOCAL.iter().find_map(|(prefix, make)| Some((word.strip_prefix(prefix)?, make)));
    if let Some((rest, make)) = local {
        return Ok(make(text(Path::new(rest))?));
    }
    let path = absolute(Path::new(source))?;
    let metadata = path.metadata().with_context(|| format!("find {}", path.display()))?;
    Ok(match locate(path.as_os_str(), max_size)? {
        Some(Location::OciArchive(..)) => Base::OciArchive(text(&path)?),
        Some(Location::DockerArchive(..)) => Base::DockerArchive(text(&path)?),
        Some(Location::Layout(..) | Location::Registry(_)) => Base::OciLayout(text(&path)?),
        None if metadata.is_dir() => Base::Dir(path),
        None => Base::Image(path),
    })
}
