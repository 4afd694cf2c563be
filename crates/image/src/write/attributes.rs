//! Owner, permissions, attributes and time of a file that was just made.
//!
//! Interfaces: fchownat(2), fchmod(2), fsetxattr(2), utimensat(2). All go through a
//! descriptor of the file, so that nobody can put another file in its place; where
//! that is one of `O_PATH`, through its name in `/proc/self/fd`. What only root may
//! set is left out for others, and noted.

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use files::notes::Notes;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::tree::{Kind, Meta, Node, show};

const OWNER: &str =
    "the owner could not be set (that takes root, or a mapped id); set-id bits went with it";
const XATTR: &str = "extended attributes that could not be set";

/// Permission bits less those that mean nothing without the owner.
const WITHOUT_SET_ID: u16 = 0o1777;

/// Errors of an owner that we may not give, or that has no number here.
const NO_OWNER: &[Errno] = &[Errno::PERM, Errno::INVAL, Errno::OVERFLOW, Errno::NOTSUP];

/// Errors of attributes that we may not set, or that the file system does not take.
const NO_XATTR: &[Errno] = &[
    Errno::PERM,
    Errno::ACCESS,
    Errno::NOTSUP,
    Errno::INVAL,
    Errno::RANGE,
    Errno::TOOBIG,
    Errno::NOSPC,
    Errno::OVERFLOW,
];

/// A file to be changed.
#[derive(Clone, Copy)]
pub(super) enum Made<'a> {
    /// Opened.
    Open(BorrowedFd<'a>),
    /// Opened with `O_PATH`: a link or a special file.
    Path(BorrowedFd<'a>),
}

impl<'a> Made<'a> {
    fn fd(self) -> BorrowedFd<'a> {
        let (Self::Open(fd) | Self::Path(fd)) = self;
        fd
    }

    /// A path that leads to the file, whatever it is.
    fn proc_path(self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }
}

/// Gives `file` all that `node` says of it but its contents; `path` is for notes.
///
/// # Errors
/// The first that is not noted.
pub(super) fn set(file: Made<'_>, node: &Node, path: &[u8], notes: &mut Notes) -> Result<()> {
    let meta = &node.meta;
    let mut permissions = meta.permissions;
    // First: to change the owner takes set-id bits and capabilities away.
    if !set_owner(file, meta)? {
        notes.add(OWNER, path);
        permissions &= WITHOUT_SET_ID;
    }
    // Before the permissions, which may not even let us write.
    for (key, value) in &meta.xattrs {
        let set = match file {
            Made::Open(fd) => rustix::fs::fsetxattr(fd, &key[..], value, XattrFlags::empty()),
            Made::Path(_) => {
                rustix::fs::setxattr(file.proc_path(), &key[..], value, XattrFlags::empty())
            }
        };
        match set {
            Err(error) if NO_XATTR.contains(&error) => notes.add(XATTR, path),
            set => set.with_context(|| format!("setxattr {}", show(key)))?,
        }
    }
    if !matches!(node.kind, Kind::Symlink(_)) {
        let mode = Mode::from_raw_mode(permissions.into());
        let set = match file {
            Made::Open(fd) => rustix::fs::fchmod(fd, mode),
            Made::Path(_) => rustix::fs::chmod(file.proc_path(), mode),
        };
        set.context("chmod")?;
    }
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let set = match file {
        Made::Open(fd) => rustix::fs::futimens(fd, &times),
        Made::Path(_) => {
            rustix::fs::utimensat(rustix::fs::CWD, file.proc_path(), &times, AtFlags::empty())
        }
    };
    set.context("utimensat")
}

/// Whether the file has the owner and the group that it should have.
fn set_owner(file: Made<'_>, meta: &Meta) -> Result<bool> {
    let stat = rustix::fs::fstat(file.fd()).context("fstat")?;
    if (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid) {
        return Ok(true);
    }
    // -1 changes nothing, so no file can be given to it.
    if [meta.uid, meta.gid].contains(&u32::MAX) {
        return Ok(false);
    }
    let owner = (Uid::from_raw_unchecked(meta.uid), Gid::from_raw_unchecked(meta.gid));
    match rustix::fs::chownat(file.fd(), "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH) {
        Ok(()) => Ok(true),
        Err(error) if NO_OWNER.contains(&error) => Ok(false),
        Err(error) => Err(error).context("chown"),
    }
}
