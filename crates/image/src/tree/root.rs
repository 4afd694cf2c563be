//! A tree as a root file system for look-ups, for example of a kernel in an image.
//!
//! Interface: [`Files`] of the crate `files`. Links are followed as in the guest: they
//! never lead out of the tree.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use files::lookup::Files;
use files::memory::new_memory_file;

use super::{Content, Id, Kind, Tree};

/// Bytes of the largest file that is copied into memory. No kernel and no module is
/// larger.
const FILE_MAX: u64 = 1 << 30;

/// A tree as a root file system, with the path of its image.
#[derive(Debug)]
pub struct ImageRoot {
    path: PathBuf,
    tree: Tree,
}

impl ImageRoot {
    /// The root file system `tree`, which was read from the image `path`.
    #[must_use]
    pub fn new(path: PathBuf, tree: Tree) -> Self {
        Self { path, tree }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let found = self.tree.resolve(path.as_os_str().as_bytes());
        found.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))
    }

    fn content(&self, path: &Path) -> io::Result<&Content> {
        match &self.tree.node(self.find(path)?).kind {
            Kind::File(content) => Ok(content),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    }
}

impl Files for ImageRoot {
    fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the file into memory, because an image may store it in pieces.
    fn file(&self, path: &Path) -> io::Result<File> {
        let content = self.content(path)?;
        if content.size() > FILE_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut file = new_memory_file().map_err(io::Error::other)?;
        io::copy(&mut content.open().map_err(io::Error::other)?, &mut file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let found = self.tree.path_of(self.find(path)?).unwrap_or_default();
        Ok(self.path.join(OsString::from_vec(found)))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let content = self.content(path)?;
        if content.size() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        content.open().map_err(io::Error::other)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let children = self.tree.children(self.find(path)?).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(children.keys().map(|name| OsString::from_vec(name.to_vec())).collect())
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        let parent = self.find(path.parent()?).ok()?;
        let found = self.tree.child(parent, path.file_name()?.as_bytes())?;
        match &self.tree.node(found).kind {
            Kind::Symlink(target) => Some(OsString::from_vec(target.to_vec()).into()),
            _ => None,
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.find(path).is_ok_and(|id| self.tree.children(id).is_some())
    }

    fn is_real_dir(&self, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default().as_bytes();
        let found = self.find(parent).map(|parent| self.tree.child(parent, name));
        found.is_ok_and(|found| found.is_some_and(|id| self.tree.children(id).is_some()))
    }

    fn is_file(&self, path: &Path) -> bool {
        self.content(path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, directory};

    fn root() -> ImageRoot {
        let mut tree = Tree::new(Meta::default());
        let mut add = |parent, name: &str, kind| {
            tree.add(parent, name.as_bytes(), Meta::default(), kind).unwrap()
        };
        let link = |target: &str| Kind::Symlink(target.as_bytes().into());
        let usr = add(Tree::ROOT, "usr", directory());
        let lib = add(usr, "lib", directory());
        add(lib, "f", Kind::File(Content::Bytes(b"inside"[..].into())));
        add(Tree::ROOT, "lib", link("usr/lib"));
        add(usr, "up", link("../../../lib/f"));
        add(usr, "absolute", link("/lib/f"));
        add(Tree::ROOT, "loop", link("loop"));
        add(Tree::ROOT, "fifo", Kind::Fifo);
        ImageRoot::new("/i".into(), tree)
    }

    #[test]
    fn links_are_followed_within_the_image() {
        let root = root();
        for path in ["lib/f", "/usr/lib/../lib/f", "usr/up", "/usr/absolute", "../../lib/f"] {
            assert_eq!(root.read(Path::new(path), 100).unwrap(), b"inside", "{path}");
            assert_eq!(root.resolve(Path::new(path)).unwrap(), Path::new("/i/usr/lib/f"), "{path}");
        }
        let mut text = String::new();
        root.file(Path::new("lib/f")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        assert_eq!(root.list(Path::new("lib")).unwrap(), ["f"]);
        assert!(root.is_dir(Path::new("/lib")) && root.is_dir(Path::new("/")));
        assert!(root.is_real_dir(Path::new("/usr/lib")) && !root.is_real_dir(Path::new("lib")));
    }

    #[test]
    fn only_regular_files_are_read() {
        let root = root();
        for path in ["loop", "fifo", "lib", "nothing", "lib/f/g"] {
            assert!(root.read(Path::new(path), 100).is_err(), "{path}");
            assert!(!root.is_file(Path::new(path)), "{path}");
        }
        assert!(root.read(Path::new("lib/f"), 5).is_err());
        assert!(root.list(Path::new("lib/f")).is_err());
    }
}
