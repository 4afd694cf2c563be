//! Owner, permissions, attributes and time of a file that was just made.
//!
//! Interfaces: fchownat(2), fchmod(2), fsetxattr(2), utimensat(2). All of them use a
//! descriptor of the file, so that nobody can put another file in its place. For a
//! descriptor of `O_PATH`, some calls use its name in `/proc/self/fd`. Metadata that only
//! root may set is left out for other users, with a note.

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use files::notes::Notes;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::tree::{Kind, Meta, Node, show};

const OWNER: &str =
    "the owner could not be set (that takes root, or a mapped id); set-id bits were left out, too";
const XATTR: &str = "extended attributes that could not be set";

/// Permission bits without set-id bits, which make no sense if the owner is wrong.
const WITHOUT_SET_ID: u16 = 0o1777;

/// Errors of chown(2) if we may not set the owner, or if the owner has no number in our user
/// namespace.
const NO_OWNER: &[Errno] = &[Errno::PERM, Errno::INVAL, Errno::OVERFLOW, Errno::NOTSUP];

/// Errors of setxattr(2) if we may not set the attribute, or if the file system cannot store
/// it.
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

/// A new file whose metadata is to be set.
#[derive(Clone, Copy)]
pub(super) enum Made<'a> {
    /// A descriptor for reading or writing.
    Open(BorrowedFd<'a>),
    /// A descriptor of `O_PATH`, for a link or a special file.
    Path(BorrowedFd<'a>),
}

impl<'a> Made<'a> {
    fn fd(self) -> BorrowedFd<'a> {
        let (Self::Open(fd) | Self::Path(fd)) = self;
        fd
    }

    /// Path of the file through its descriptor.
    fn proc_path(self) -> String {
        format!("/proc/self/fd/{}", self.fd().as_raw_fd())
    }
}

/// Sets owner, permissions, attributes and time of `file` to those of `node`. `path` is the
/// file's path in notes.
///
/// # Errors
/// The first error that does not become a note.
pub(super) fn set(file: Made<'_>, node: &Node, path: &[u8], notes: &mut Notes) -> Result<()> {
    let meta = &node.meta;
    let mut permissions = meta.permissions;
    // Set the owner first, because this removes set-id bits and capabilities.
    if !set_owner(file, meta)? {
        notes.add(OWNER, path);
        permissions &= WITHOUT_SET_ID;
    }
    // Set attributes before the permissions, which may forbid us to write.
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
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: meta.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    let set = match file {
        Made::Open(fd) => rustix::fs::futimens(fd, &times),
        Made::Path(_) => {
            rustix::fs::utimensat(rustix::fs::CWD, file.proc_path(), &times, AtFlags::empty())
        }
    };
    set.context("utimensat")
}

/// Sets owner and group. Returns `false` if that is not possible for us.
fn set_owner(file: Made<'_>, meta: &Meta) -> Result<bool> {
    let stat = rustix::fs::fstat(file.fd()).context("fstat")?;
    if (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid) {
        return Ok(true);
    }
    // For chown(2), -1 means "do not change", so no file can have it as owner.
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
