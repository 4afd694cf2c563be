//! Files of a package that a step uses, and digests of them.
//!
//! A digest covers names, kinds, modes, extended attributes and contents, but neither times nor
//! owners: a step does not see them.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use image::edit::select::Selected;
use image::source::{self, ReadOptions};
use image::tree::{Content, Kind as NodeKind, Meta, Tree, show};
use image::write::tar;
use sha2::{Digest, Sha256};

use super::super::kept::key::Key;
use super::super::kept::store::{Kind, Store};
use crate::logger::warn_all;

/// Bytes of a SHA-256.
pub(in crate::image_command::recipe) const DIGEST: usize = 32;

/// Whether a digest covers the owners of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Owners {
    /// It does: a step sees them.
    Count,
    /// It does not: they are those of the host.
    Ignored,
}

/// Age that a change must have before what is known of a file is kept: the time stamps of a file
/// system do not tell two quick changes apart (Linux: one jiffy; FAT: two seconds).
const SETTLED: Duration = Duration::from_secs(3);

/// A file or a directory of the host.
#[derive(Clone, Debug)]
pub(in crate::image_command::recipe) struct Input {
    /// The last name of the path in the recipe.
    pub(in crate::image_command::recipe) name: Vec<u8>,
    /// A file becomes a tree of one name; a directory is the root of the tree.
    pub(in crate::image_command::recipe) tree: Tree,
    /// Which of them it is.
    pub(in crate::image_command::recipe) is_directory: bool,
    /// Its digest when it was read; `None` for what this program has made.
    pub(in crate::image_command::recipe) known: Option<(Owners, [u8; DIGEST])>,
}

impl Input {
    /// Reads the file or directory at `path`, to which a link with another `name` may have led.
    ///
    /// # Errors
    /// It is missing, neither a file nor a directory, or cannot be read.
    pub(in crate::image_command::recipe) fn read(path: &Path, name: &OsStr) -> Result<Self> {
        let name = name.as_bytes().to_vec();
        let metadata = path.metadata().context("look at it")?;
        if metadata.is_dir() {
            let mut notes = Notes::default();
            let tree = source::open(path, &ReadOptions::default(), &mut notes)?.tree;
            warn_all(notes.lines());
            return Ok(Self { name, tree, is_directory: true, known: None });
        }
        ensure!(metadata.is_file(), "it is neither a file nor a directory");
        let file = File::open(path).context("open it")?;
        let content = Content::Part { archive: Arc::new(file), offset: 0, size: metadata.len() };
        let permissions = u16::try_from(metadata.mode() & 0o7777)?;
        Self::of_file(name, content, permissions)
    }

    /// A file with these contents.
    ///
    /// # Errors
    /// The name is none of a file.
    pub(in crate::image_command::recipe) fn of_file(
        name: Vec<u8>,
        content: Content,
        permissions: u16,
    ) -> Result<Self> {
        let mut tree = Tree::new(Meta::default());
        let meta = Meta { permissions, ..Meta::default() };
        tree.add(Tree::ROOT, &name, meta, NodeKind::File(content))?;
        Ok(Self { name, tree, is_directory: false, known: None })
    }

    /// What a pattern has selected in a tree.
    pub(in crate::image_command::recipe) fn of_selected(selected: Selected) -> Self {
        let Selected { name, tree, is_directory } = selected;
        Self { name, tree, is_directory, known: None }
    }

    /// Sets the times of all files, in seconds since 1970.
    pub(in crate::image_command::recipe) fn set_time(&mut self, time: i64) {
        for meta in self.tree.metas_mut() {
            (meta.mtime, meta.nanoseconds) = (time, 0);
        }
    }

    /// Sets the permissions of all files.
    pub(in crate::image_command::recipe) fn set_permissions(&mut self, permissions: u16) {
        for meta in self.tree.metas_mut() {
            meta.permissions = permissions;
        }
    }

    /// Computes the digest, by which a change is noticed later. Returns it.
    ///
    /// # Errors
    /// Contents cannot be read.
    pub(in crate::image_command::recipe) fn identify(
        &mut self,
        owners: Owners,
    ) -> Result<[u8; DIGEST]> {
        let digest = self.digest(owners)?;
        self.known = Some((owners, digest));
        Ok(digest)
    }

    /// Fails if the input has changed since it was identified: then a part of what was made of it
    /// has the old contents, and another part the new ones.
    ///
    /// # Errors
    /// It has changed, or cannot be read any more.
    pub(in crate::image_command::recipe) fn check_unchanged(&self) -> Result<()> {
        let Some((owners, known)) = self.known else { return Ok(()) };
        let has_length = |content: &Content| match content {
            Content::Part { archive, offset: 0, size } => {
                archive.metadata().is_ok_and(|found| found.len() == *size)
            }
            _ => true,
        };
        let is_whole = self.tree.nodes().all(|node| match &node.kind {
            NodeKind::File(content) => has_length(content),
            _ => true,
        });
        let is_same = is_whole && self.digest(owners).is_ok_and(|digest| digest == known);
        ensure!(is_same, "{} has changed during the build", show(&self.name));
        Ok(())
    }

    /// The digest of the input.
    ///
    /// # Errors
    /// Contents cannot be read.
    fn digest(&self, owners: Owners) -> Result<[u8; DIGEST]> {
        let mut tree = self.tree.clone();
        for meta in tree.metas_mut() {
            let (uid, gid) = match owners {
                Owners::Count => (meta.uid, meta.gid),
                Owners::Ignored => (0, 0),
            };
            let xattrs = meta.xattrs.clone();
            *meta = Meta { permissions: meta.permissions, uid, gid, xattrs, ..Meta::default() };
        }
        // A file and a directory that holds it are different inputs of one tree.
        let kind: &[u8] = if self.is_directory { b"directory" } else { b"file" };
        Ok(Key::first(&[kind, &digest(&tree)?]).bytes())
    }
}

/// SHA-256 of a tree, with everything that it has.
///
/// # Errors
/// Contents cannot be read.
pub(in crate::image_command::recipe) fn digest(tree: &Tree) -> Result<[u8; DIGEST]> {
    let mut hasher = Hasher(Sha256::new());
    tar::write(tree, &mut hasher, &mut Notes::default())?;
    Ok(hasher.0.finalize().into())
}

/// SHA-256 of a file. If the file has not changed since, the digest that is kept answers.
///
/// # Errors
/// The file cannot be read.
pub(in crate::image_command::recipe) fn file_digest(
    path: &Path,
    store: &Store,
) -> Result<[u8; DIGEST]> {
    remembered(path, store, &|| {
        let mut file = File::open(path)?;
        let mut hasher = Hasher(Sha256::new());
        io::copy(&mut file, &mut hasher)?;
        Ok(hasher.0.finalize().into())
    })
}

/// The digest of what is at `path`: the kept one if nothing has changed there since, else that of
/// `compute`.
///
/// # Errors
/// Those of `compute`; a directory that cannot be read.
pub(in crate::image_command::recipe) fn remembered(
    path: &Path,
    store: &Store,
    compute: &dyn Fn() -> Result<[u8; DIGEST]>,
) -> Result<[u8; DIGEST]> {
    let looking = || format!("look at {}", path.display());
    let path = path.canonicalize().with_context(looking)?;
    let mut stamp = Stamp { bytes: path.as_os_str().as_bytes().to_vec(), newest: UNIX_EPOCH };
    stamp.add(&path, &path.symlink_metadata().with_context(looking)?).with_context(looking)?;
    let key = Key::first(&[b"input", &stamp.bytes]);
    let kept = store.read(Kind::Input, &key, DIGEST as u64);
    if let Some(digest) = kept.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(digest);
    }
    let now = SystemTime::now();
    let digest = compute()?;
    if now.duration_since(stamp.newest).is_ok_and(|age| age > SETTLED) {
        store.note(Kind::Input, &key, &digest);
    }
    Ok(digest)
}

/// Names the file at `path` as it is now, after it was written as the output that `key` names.
/// Another file there, or a change of it, gives another name. `None` where a change could have the
/// same time stamps: if the file system has none below a second.
pub(in crate::image_command::recipe) fn written(path: &Path, key: &Key) -> Option<Key> {
    let path = path.canonicalize().ok()?;
    let metadata = path.symlink_metadata().ok()?;
    if !metadata.is_file() || metadata.ctime_nsec() == 0 {
        return None;
    }
    let mut stamp = Stamp { bytes: Vec::new(), newest: UNIX_EPOCH };
    stamp.add(&path, &metadata).ok()?;
    Some(key.then(&[b"written", &stamp.bytes]))
}

/// What stat(2) says about a file, or about all files of a directory.
struct Stamp {
    bytes: Vec<u8>,
    /// Time of the newest change.
    newest: SystemTime,
}

impl Stamp {
    fn add(&mut self, path: &Path, metadata: &Metadata) -> Result<()> {
        self.bytes.extend(path.as_os_str().as_bytes());
        for number in [
            i128::from(metadata.dev()),
            metadata.ino().into(),
            metadata.mode().into(),
            metadata.uid().into(),
            metadata.gid().into(),
            metadata.size().into(),
            metadata.mtime().into(),
            metadata.mtime_nsec().into(),
            metadata.ctime().into(),
            metadata.ctime_nsec().into(),
        ] {
            self.bytes.extend(format!(" {number}").as_bytes());
        }
        self.bytes.push(0);
        let seconds = u64::try_from(metadata.ctime().max(metadata.mtime())).unwrap_or(0);
        self.newest = self.newest.max(UNIX_EPOCH + Duration::from_secs(seconds));
        if metadata.is_dir() {
            let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                self.add(&entry.path(), &entry.metadata()?)?;
            }
        }
        Ok(())
    }
}

/// A writer into a hash.
struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_written_file_has_its_name_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        let (key, other_key) = (Key::first(&[b"a"]), Key::first(&[b"b"]));
        fs::write(&path, "a").unwrap();
        let name = written(&path, &key).unwrap();
        assert_eq!(written(&path, &key), Some(name));
        assert_ne!(written(&path, &other_key), Some(name));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let closed = written(&path, &key).unwrap();
        assert_ne!(closed, name);
        fs::write(&path, "longer").unwrap();
        assert_ne!(written(&path, &key), Some(closed));
        fs::rename(&path, &other).unwrap();
        assert_eq!(written(&path, &key), None);
        assert_eq!(written(dir.path(), &key), None);
    }
}
