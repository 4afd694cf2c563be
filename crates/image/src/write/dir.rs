//! Writing a [`Tree`] as a new directory of the host.
//!
//! Interfaces: openat2(2) with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, mknodat(2),
//! linkat(2). The directory is made under a temporary name, with permissions for us alone,
//! and is renamed at the end. No path is followed through a link: neither a link of the
//! tree, nor one that somebody else puts there in the meantime. Files that only root may
//! make are left out for other users, with a note.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use archive::bytes::is_zero;
use files::notes::Notes;
use files::output;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes::{self, Made};
use crate::progress::Progress;
use crate::tree::holes::{self, Part};
use crate::tree::{Content, Id, Kind, Node, Tree, show};

const DEVICE: &str = "device nodes are left out, because only root can make them";
const SPECIAL: &str = "FIFOs and sockets are left out, because this file system has none";

/// Writes `tree` to the new directory `path`. The directory must not exist, or must be empty.
///
/// # Errors
/// The first error that does not become a note. Then nothing is left of the directory.
pub fn write(tree: &Tree, path: &Path, notes: &mut Notes, progress: &Progress) -> Result<()> {
    let name = || format!("write directory {}", path.display());
    let is_free = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    ensure!(is_free, "{}: it exists already, and is not an empty directory", name());
    // If `path` is a link to an empty directory, replace the directory and keep the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    output::without_signals(|| {
        let parent = output::directory(&target);
        let temporary = tempfile::Builder::new()
            .prefix(output::PREFIX)
            .permissions(Permissions::from_mode(Mode::RWXU.as_raw_mode()))
            .tempdir_in(parent)?;
        let top = open_own(temporary.path())?;
        DirWriter { tree, top, notes, progress, names: HashMap::new() }.all()?;
        std::fs::rename(temporary.path(), &target)?;
        let _ = temporary.keep(); // do not delete it: it was renamed
        Ok(())
    })
    .with_context(name)
}

/// Opens the directory `path`, which we have just made. Fails if somebody else has put another
/// file in its place.
fn open_own(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o7777 == Mode::RWXU.as_raw_mode();
    ensure!(is_own, "{}: somebody else has put another directory in its place", path.display());
    Ok(fd)
}

struct DirWriter<'a> {
    tree: &'a Tree,
    top: OwnedFd,
    notes: &'a mut Notes,
    progress: &'a Progress,
    /// First paths of the nodes with several names; `None` for a node that was left out.
    names: HashMap<Id, Option<PathBuf>>,
}

impl DirWriter<'_> {
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
        // Set the metadata of directories last: adding a file changes the time of its
        // directory, and needs write permission.
        for (id, path) in directories.iter().rev() {
            let fd = self.open(path)?;
            let shown = path.as_os_str().as_bytes();
            let made = Made::Open(fd.as_fd());
            attributes::set(made, self.tree.node(*id), shown, self.notes)
                .with_context(|| show(shown))?;
        }
        Ok(())
    }

    /// Opens a directory that was made before.
    fn open(&self, path: &Path) -> Result<OwnedFd> {
        let path = if path == Path::new("") { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve);
        fd.with_context(|| format!("open {}", show(path.as_os_str().as_bytes())))
    }

    fn node(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, id: Id) -> Result<()> {
        let node = self.tree.node(id);
        if let Some(first) = self.names.get(&id).cloned() {
            return match first {
                Some(first) => self.link(&first, parent, name),
                None => {
                    self.leave_out(&node.kind, path);
                    Ok(())
                }
            };
        }
        let is_made = self.make(parent, name, path, node)?;
        if node.names > 1 {
            self.names.insert(id, is_made.then(|| path.to_path_buf()));
        }
        Ok(())
    }

    /// Makes a hard link to the file `first`.
    fn link(&self, first: &Path, parent: &OwnedFd, name: &[u8]) -> Result<()> {
        let directory = self.open(first.parent().unwrap_or(Path::new("")))?;
        let first = first.file_name().unwrap_or_default();
        Ok(rustix::fs::linkat(&directory, first, parent, name, AtFlags::empty())?)
    }

    /// Makes a file. Returns `false` if it was left out.
    fn make(&mut self, parent: &OwnedFd, name: &[u8], path: &Path, node: &Node) -> Result<bool> {
        let special = |kind, (major, minor): (u32, u32)| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(parent, name, kind, Mode::RWXU, device)
        };
        let made = match &node.kind {
            // The metadata of a directory is set at the end.
            Kind::Directory(_) => {
                rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
                return Ok(true);
            }
            Kind::File(content) => {
                self.file(parent, name, path, node, content)?;
                return Ok(true);
            }
            Kind::Symlink(target) => rustix::fs::symlinkat(&target[..], parent, name),
            Kind::Fifo => special(FileType::Fifo, (0, 0)),
            Kind::Socket => special(FileType::Socket, (0, 0)),
            &Kind::CharDevice(major, minor) => special(FileType::CharacterDevice, (major, minor)),
            &Kind::BlockDevice(major, minor) => special(FileType::BlockDevice, (major, minor)),
        };
        match made {
            Err(Errno::PERM) if !matches!(node.kind, Kind::Symlink(_)) => {
                self.leave_out(&node.kind, path);
                return Ok(false);
            }
            made => made?,
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let shown = path.as_os_str().as_bytes();
        attributes::set(Made::Path(fd.as_fd()), node, shown, self.notes)?;
        Ok(true)
    }

    fn leave_out(&mut self, kind: &Kind, path: &Path) {
        let what = match kind {
            Kind::CharDevice(..) | Kind::BlockDevice(..) => DEVICE,
            _ => SPECIAL,
        };
        self.notes.add(what, path.as_os_str().as_bytes());
    }

    /// Makes a regular file, with holes in place of zeros.
    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &Path,
        node: &Node,
        content: &Content,
    ) -> Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
        let mut at = 0;
        let copied = holes::for_parts(content, &mut |part| {
            let length = match part {
                Part::Hole(length) => length,
                Part::Data(bytes) => {
                    if !is_zero(bytes) {
                        file.write_all_at(bytes, at).context("write")?;
                    }
                    bytes.len() as u64
                }
            };
            at += length;
            self.progress.add(length);
            output::check_signals()
        });
        copied.and_then(|()| file.set_len(at).context("write"))?;
        let shown = path.as_os_str().as_bytes();
        attributes::set(Made::Open(file.as_fd()), node, shown, self.notes)
    }
}
