//! Reading a directory of the host as a [`Tree`].
//!
//! Interfaces: openat2(2); statx(2), which tells mount points since Linux 5.8;
//! listxattr(7). No link is followed. A directory on which something is mounted stays
//! empty in the tree: otherwise the files of a mounted `/proc` would be read as well.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use files::lookup::Files;
use files::notes::Notes;
use files::root_dir::RootDir;
use rustix::fs::{AtFlags, Dir, FileType, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::FileId;
use crate::edit::ignore::{Doubtful, Patterns};
use crate::tree::{
    Content, HostDirectory, Id, Kind, Meta, NANOSECONDS_MAX, PATH_MAX, Tree, Xattrs, kind_of, show,
};

/// Note about a mount point, whose contents are left out.
const MOUNTED: &str = "something is mounted there, the directory is left empty";

/// Note about an output of the running command that is in the source.
const OUTPUT: &str = "an output of this command is left out";

/// Prefixes of the attributes to read. Other attributes are not stored with the file; the
/// kernel computes them.
const XATTRS: &[&str] = &["security.", "system.posix_acl_", "trusted.", "user."];

/// First size in bytes of the buffer for names and values of attributes.
const XATTR_ROOM: usize = 1 << 10;
/// Bytes of the longest list of names, and of the longest value (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`, `include/uapi/linux/limits.h`).
const XATTR_MAX: usize = 1 << 16;

/// Reads the directory `path` and everything below it.
///
/// # Errors
/// A file that cannot be read, with its path.
pub fn read(path: &Path, notes: &mut Notes) -> Result<Tree> {
    read_without(path, Without::default(), notes)
}

/// What [`read_without`] leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Without<'a> {
    /// Files and directories by their identity.
    pub files: &'a [FileId],
    /// Paths below the directory that is read. A directory below which nothing can stay is not
    /// opened.
    pub paths: Option<&'a Patterns>,
}

/// Like [`read`], but leaves some files and directories out.
///
/// # Errors
/// Those of [`read`].
pub fn read_without(path: &Path, without: Without<'_>, notes: &mut Notes) -> Result<Tree> {
    let root = Arc::new(RootDir::open(path)?);
    let fd = root.directory(Path::new("."))?;
    let stat = stat(fd.as_fd(), c"")?;
    let meta = meta(&stat, xattrs(fd.as_fd(), b".")?);
    let device = (stat.stx_dev_major, stat.stx_dev_minor);
    let mut scan = Scan {
        device,
        tree: Tree::new(meta),
        links: HashMap::new(),
        without,
        doubtful: Doubtful::default(),
        notes,
    };
    let mut pending = vec![(Tree::ROOT, PathBuf::new())];
    while let Some((id, path)) = pending.pop() {
        let directory = Arc::new(HostDirectory { root: Arc::clone(&root), path });
        let found = scan.directory(id, &directory, &mut pending);
        found.with_context(|| {
            format!("read directory {}", root.host_path(&directory.path).display())
        })?;
    }
    scan.doubtful.remove_empty(&mut scan.tree);
    Ok(scan.tree)
}

struct Scan<'a> {
    device: (u32, u32),
    tree: Tree,
    /// Files with several names, by device and inode.
    links: HashMap<(u32, u32, u64), Id>,
    without: Without<'a>,
    /// Directories that a pattern leaves out, unless something below them stays.
    doubtful: Doubtful,
    notes: &'a mut Notes,
}

impl Scan<'_> {
    fn directory(
        &mut self,
        id: Id,
        directory: &Arc<HostDirectory>,
        pending: &mut Vec<(Id, PathBuf)>,
    ) -> Result<()> {
        let fd = directory.root.directory(&Path::new(".").join(&directory.path))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        // Sort the names: nodes are numbered in this order, which must not depend on the file
        // system.
        names.sort_unstable();
        for name in &names {
            let added = self.entry(id, &fd, name, directory);
            let added = added.with_context(|| show(name.to_bytes()))?;
            pending.extend(added);
        }
        Ok(())
    }

    /// Adds the file `name` to directory `parent`. Returns a directory that must be read
    /// next.
    fn entry(
        &mut self,
        parent: Id,
        fd: &OwnedFd,
        name: &CStr,
        directory: &Arc<HostDirectory>,
    ) -> Result<Option<(Id, PathBuf)>> {
        let path = directory.path.join(OsStr::from_bytes(name.to_bytes()));
        ensure!(path.as_os_str().len() <= PATH_MAX, "the path has more than {PATH_MAX} bytes");
        let bytes = path.as_os_str().as_bytes();
        let filter = self.without.paths;
        if filter.is_some_and(|filter| filter.excludes_all_below(bytes)) {
            return Ok(None);
        }
        let stat = stat(fd.as_fd(), name)?;
        let is_directory = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
        let is_excluded = filter.is_some_and(|filter| filter.excludes(bytes));
        if is_excluded && !is_directory {
            return Ok(None);
        }
        if self.without.files.contains(&id_of(&stat)) {
            self.notes.add(OUTPUT, bytes);
            return Ok(None);
        }
        let key = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        if let Some(&known) = self.links.get(&key) {
            self.tree.link(parent, name.to_bytes(), known)?;
            return Ok(None);
        }
        let kind = kind(fd, name, directory, &stat)?;
        let meta = meta(&stat, xattrs(fd.as_fd(), name.to_bytes())?);
        let id = self.tree.add(parent, name.to_bytes(), meta, kind)?;
        if !is_directory {
            if stat.stx_nlink > 1 {
                self.links.insert(key, id);
            }
            return Ok(None);
        }
        if is_excluded {
            self.doubtful.note(parent, name.to_bytes(), id);
        }
        if self.is_mounted(&stat) {
            self.notes.add(MOUNTED, bytes);
            return Ok(None);
        }
        Ok(Some((id, path)))
    }

    /// Whether a directory is a mount point. Kernels before 5.8 do not tell; then another
    /// device number shows it.
    fn is_mounted(&self, stat: &Statx) -> bool {
        match stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
            true => stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            false => (stat.stx_dev_major, stat.stx_dev_minor) != self.device,
        }
    }
}

fn kind(fd: &OwnedFd, name: &CStr, parent: &Arc<HostDirectory>, stat: &Statx) -> Result<Kind> {
    Ok(match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File(Content::Host {
            directory: Arc::clone(parent),
            name: name.to_bytes().into(),
            size: stat.stx_size,
        }),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(fd, name, Vec::new())?;
            Kind::Symlink(target.to_bytes().into())
        }
        _ => kind_of(stat.stx_mode.into(), (stat.stx_rdev_major, stat.stx_rdev_minor))
            .context("a file of an unknown type")?,
    })
}

fn stat(fd: BorrowedFd<'_>, name: &CStr) -> Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(fd, name, flags, StatxFlags::BASIC_STATS);
    stat.context("statx")
}

fn id_of(stat: &Statx) -> FileId {
    let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    FileId { device, inode: stat.stx_ino }
}

fn meta(stat: &Statx, xattrs: Xattrs) -> Meta {
    Meta {
        permissions: stat.stx_mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: stat.stx_mtime.tv_sec,
        nanoseconds: stat.stx_mtime.tv_nsec.min(NANOSECONDS_MAX),
        xattrs,
    }
}

/// Reads the extended attributes of `name` in a directory. Linux before 6.13 has no
/// `listxattrat`, so this uses a path through the descriptor in `/proc/self/fd`.
fn xattrs(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs> {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    let mut buffer = Vec::new();
    let names = sized(&mut buffer, |buffer| rustix::fs::llistxattr(&path[..], buffer));
    let names = match names {
        // The file system has no attributes, or we may not read them.
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => return Ok(Xattrs::new()),
        names => names.context("listxattr")?.to_vec(),
    };
    let mut xattrs = Xattrs::new();
    for name in names.split(|&byte| byte == 0) {
        if !XATTRS.iter().any(|prefix| name.starts_with(prefix.as_bytes())) {
            continue;
        }
        match sized(&mut buffer, |buffer| rustix::fs::lgetxattr(&path[..], name, buffer)) {
            // The attribute was removed since its name was listed.
            Err(Errno::NODATA) => {}
            value => {
                let value = value.with_context(|| format!("getxattr {}", show(name)))?;
                xattrs.insert(name.into(), value.into());
            }
        }
    }
    Ok(xattrs)
}

/// Calls `get` with a larger and larger buffer until the result fits.
fn sized(
    buffer: &mut Vec<u8>,
    get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<&[u8]> {
    loop {
        // An empty buffer would not do: rustix then returns no bytes and no error.
        buffer.resize(buffer.len().max(XATTR_ROOM), 0);
        match get(buffer) {
            Ok(size) => return Ok(buffer.get(..size).unwrap_or_default()),
            Err(Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(buffer.len() * 2, 0),
            Err(error) => return Err(error),
        }
    }
}
