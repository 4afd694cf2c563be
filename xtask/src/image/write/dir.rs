//! A new directory of the host from a [`Tree`].
//!
//! Interfaces: openat2(2) with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`,
//! mknodat(2), linkat(2). It is made under another name, with permissions for us
//! alone, and takes its own at the end. What only root may do is left out for
//! others, and noted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::copier::Copier;
use crate::image::notes::Notes;
use crate::image::progress::Progress;
use crate::image::tree::{Id, Kind, Node, Tree, show};
use crate::output;

const OWNER: &str = "owners are kept by root only, and set-id bits with them";
const DEVICE: &str = "device nodes are made by root only, they are left out";
const XATTR: &str = "extended attributes that could not be set";

/// Permission bits less those that mean nothing without the owner.
const WITHOUT_SET_ID: u16 = 0o1777;

/// Makes the directory `path`, which must not be there yet, or be empty.
///
/// # Errors
/// The first that is not noted; nothing is left then.
pub fn write(tree: &Tree, path: &Path, notes: &mut Notes, progress: &Progress) -> Result<()> {
    let name = || format!("write directory {}", path.display());
    let is_free = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    ensure!(is_free, "{}: it is there already, and not as an empty directory", name());
    output::without_signals(|| {
        let temporary =
            tempfile::Builder::new().prefix(output::PREFIX).tempdir_in(output::directory(path))?;
        let top =
            rustix::fs::open(temporary.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let is_root = rustix::process::geteuid().is_root();
        let copier = Copier::new();
        let names = HashMap::new();
        let mut unpacker = Unpacker { tree, top, notes, progress, is_root, copier, names };
        unpacker.all()?;
        std::fs::rename(temporary.path(), path)?;
        let _ = temporary.keep(); // its name is gone already
        Ok(())
    })
    .with_context(name)
}

struct Unpacker<'a> {
    tree: &'a Tree,
    top: OwnedFd,
    notes: &'a mut Notes,
    progress: &'a Progress,
    is_root: bool,
    copier: Copier,
    /// Where the nodes with several names are.
    names: HashMap<Id, PathBuf>,
}

impl Unpacker<'_> {
    fn all(&mut self) -> Result<()> {
        let mut directories = vec![(Tree::ROOT, PathBuf::new())];
        let mut done = 0;
        while let Some((id, path)) = directories.get(done).cloned() {
            done += 1;
            let fd = self.open(&path)?;
            for (name, &child) in self.tree.children(id).into_iter().flatten() {
                output::check_signals()?;
                let path = path.join(OsStr::from_bytes(name));
                let made = self.node(&fd, name, &path, child);
                made.with_context(|| show(path.as_os_str().as_bytes()))?;
                if self.tree.children(child).is_some() {
                    directories.push((child, path));
                }
            }
        }
        // What is in a directory changes its time, and needs its permissions.
        for (id, path) in directories.iter().rev() {
            let (parent, name) = match path.file_name() {
                Some(name) => (self.open(&output::directory(path))?, name),
                None => (self.open(path)?, OsStr::new(".")),
            };
            let made = self.meta(&parent, name.as_bytes(), path, self.tree.node(*id));
            made.with_context(|| show(path.as_os_str().as_bytes()))?;
        }
        Ok(())
    }

    /// A directory that was made already.
    fn open(&self, path: &Path) -> Result<OwnedFd> {
        let path = if path == Path::new("") { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve);
        fd.with_context(|| format!("open {}", show(path.as_os_str().as_bytes())))
    }

    fn node(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, id: Id) -> Result<()> {
        let node = self.tree.node(id);
        if node.names > 1 {
            if let Some(first) = self.names.get(&id) {
                return Ok(rustix::fs::linkat(&self.top, first, parent, name, AtFlags::empty())?);
            }
            self.names.insert(id, path.to_path_buf());
        }
        let private = Mode::RWXU;
        match &node.kind {
            // The rest follows when it is full.
            Kind::Directory(_) => return Ok(rustix::fs::mkdirat(parent, name, private)?),
            Kind::File(_) => self.file(parent, name, path, node)?,
            Kind::Symlink(target) => rustix::fs::symlinkat(&target[..], parent, name)?,
            Kind::Fifo => rustix::fs::mknodat(parent, name, FileType::Fifo, private, 0)?,
            Kind::Socket => rustix::fs::mknodat(parent, name, FileType::Socket, private, 0)?,
            Kind::CharDevice(major, minor) => {
                return self.device(
                    parent,
                    name,
                    path,
                    node,
                    (FileType::CharacterDevice, *major, *minor),
                );
            }
            Kind::BlockDevice(major, minor) => {
                return self.device(
                    parent,
                    name,
                    path,
                    node,
                    (FileType::BlockDevice, *major, *minor),
                );
            }
        }
        self.meta(parent, name, path, node)
    }

    fn device(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &Path,
        node: &Node,
        (kind, major, minor): (FileType, u32, u32),
    ) -> Result<()> {
        let device = rustix::fs::makedev(major, minor);
        match rustix::fs::mknodat(parent, name, kind, Mode::RWXU, device) {
            Err(Errno::PERM) => {
                self.notes.add(DEVICE, path.as_os_str().as_bytes());
                Ok(())
            }
            made => {
                made?;
                self.meta(parent, name, path, node)
            }
        }
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, node: &Node) -> Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        let mut out = Holes { file: &file, at: 0, progress: self.progress };
        self.copier.copy(path.as_os_str().as_bytes(), node, &mut out)?;
        Ok(file.set_len(out.at)?)
    }

    /// Owner first: to change it takes set-id bits and capabilities away.
    fn meta(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, node: &Node) -> Result<()> {
        let meta = &node.meta;
        let shown = path.as_os_str().as_bytes();
        let mut permissions = meta.permissions;
        if self.is_root {
            let owner = (Uid::from_raw_unchecked(meta.uid), Gid::from_raw_unchecked(meta.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(owner.0), Some(owner.1), flags)
                .context("chown")?;
        } else {
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            if (meta.uid, meta.gid) != own {
                self.notes.add(OWNER, shown);
                permissions &= WITHOUT_SET_ID;
            }
        }
        if !matches!(node.kind, Kind::Symlink(_)) {
            let mode = Mode::from_raw_mode(permissions.into());
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).context("chmod")?;
        }
        let target = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
        for (key, value) in &meta.xattrs {
            match rustix::fs::lsetxattr(&target[..], &key[..], value, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::NOTSUP | Errno::ACCESS) => self.notes.add(XATTR, shown),
                set => set.with_context(|| format!("setxattr {}", show(key)))?,
            }
        }
        let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).context("utimensat")
    }
}

/// Leaves holes where there are only zeroes.
struct Holes<'a> {
    file: &'a File,
    at: u64,
    progress: &'a Progress,
}

impl Write for Holes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.iter().any(|&byte| byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(self.file, bytes, self.at)?;
        }
        self.at += bytes.len() as u64;
        self.progress.add(bytes.len() as u64);
        output::check_signals().map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
