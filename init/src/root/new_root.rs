//! The mounted root before it becomes `/`: looking up and reading what is in it.
//!
//! Interface: openat2(2) (Linux 5.6).
//!
//! Invariant: the kernel resolves every path inside the new root with
//! `RESOLVE_IN_ROOT`, so that an absolute link in it never leads into the initramfs.

use alloc::vec::Vec;
use core::ffi::CStr;

use proto::access::Access;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::root::initramfs::{self, OVERLAYFS_MAGIC, RAMFS_MAGIC, TMPFS_MAGIC};
use crate::sys::error::{Context, Result};
use crate::sys::file;

/// Method by which the new root becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwitchMethod {
    /// Free the initramfs and move the root's mount over it.
    Move,
    /// Move the root's mount, which is the initramfs itself; then make it read-only, if
    /// asked.
    MoveInitramfs(Access),
    /// Enter the root: its overlay is mounted over `/`.
    Enter,
    /// Do nothing: the root is already `/`.
    Stay,
}

/// The mounted root, perhaps not yet `/`.
#[derive(Debug)]
pub struct NewRoot {
    pub(super) dir: OwnedFd,
    pub(super) method: SwitchMethod,
}

impl NewRoot {
    pub(super) fn open(path: &CStr, method: SwitchMethod) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(|dir| Self { dir, method })
            .context(format_args!("open the root directory"))
    }

    /// Opens `path` of the new root as a location (`O_PATH`). Links are followed inside
    /// the root only.
    pub fn locate(&self, path: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
        self.open_inside(path, OFlags::PATH | extra)
    }

    /// The contents of a file of the root, which may be anything. `None`: there is no
    /// such file.
    pub fn read(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        match self.open_inside(path, file::UNTRUSTED) {
            Ok(fd) => file::read_regular_fd(&fd).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads the first bytes of a file of the root into `head`; returns their count.
    pub fn read_head(&self, path: &[u8], head: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(&self.open_inside(path, OFlags::RDONLY)?, head)
    }

    /// Whether `dir` is on a file system of the guest that can be written to, and whose contents
    /// are lost when the machine ends. An overlay counts: its upper layer is a tmpfs.
    pub fn owns(&self, dir: &OwnedFd) -> Result<bool, Errno> {
        let is_in_memory =
            [RAMFS_MAGIC, TMPFS_MAGIC, OVERLAYFS_MAGIC].contains(&initramfs::fs_magic(dir)?);
        Ok(is_in_memory && !is_mounted_read_only(dir))
    }

    /// Whether nothing can be written to the file system of `dir`, as soon as the root is `/`.
    #[must_use]
    pub fn is_read_only(&self, dir: &OwnedFd) -> bool {
        // An initramfs becomes read-only at the end.
        self.method == SwitchMethod::MoveInitramfs(Access::ReadOnly) || is_mounted_read_only(dir)
    }

    fn open_inside(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = file::c_string(&[path])?;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.dir, &*path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }
}

fn is_mounted_read_only(dir: &OwnedFd) -> bool {
    let found = rustix::fs::fstatvfs(dir);
    found.is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}
