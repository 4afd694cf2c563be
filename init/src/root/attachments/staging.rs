//! Mounting a file system first and giving it its place later.
//!
//! Interfaces: open_tree(2), move_mount(2).
//!
//! Invariant: a mount moves from a descriptor to a descriptor, so that no link in the root
//! can lead it elsewhere.

use core::ffi::CStr;

use proto::text::show;
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::root::new_root::NewRoot;
use crate::sys::error::{Context, Hints, Result};
use crate::sys::file;

/// Mount point of a file system until it moves to its path in the root.
pub const STAGE: &CStr = c"/run/stage";

/// Hints for a failed move to a path of the root.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOENT),  "no such directory in the root; make it there, mount below /run, or use --overlay"),
    (Some(Errno::NOTDIR), "it, or a part of its path, is no directory"),
    (Some(Errno::LOOP),   "too many symbolic links"),
];

/// A mounted file system that has no path yet.
#[derive(Debug)]
pub struct StagedMount(OwnedFd);

impl StagedMount {
    /// Takes the file system that `mount` mounts at [`STAGE`] away from there.
    pub fn new(mount: &dyn Fn() -> Result<()>) -> Result<Self> {
        file::mkdir(STAGE).context(format_args!("make /run/stage"))?;
        mount().inspect_err(|_| {
            let _ = rustix::fs::rmdir(STAGE); // if it stays, it is empty and does no harm
        })?;
        let take = || {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let mounted = rustix::mount::open_tree(CWD, STAGE, flags)?;
            rustix::mount::unmount(STAGE, UnmountFlags::DETACH)?;
            rustix::fs::rmdir(STAGE)?;
            Ok(Self(mounted))
        };
        take().context(format_args!("take the file system mounted at /run/stage"))
    }

    /// Moves the file system to `path` in the root. `noun` names it in messages.
    pub fn place(self, new_root: &NewRoot, path: &[u8], noun: &str) -> Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let at = show(path);
        new_root
            .make_directory(path)
            .and_then(|target| rustix::mount::move_mount(&self.0, c"", &target, c"", flags))
            .hinted(format_args!("mount {noun} at {at}"), HINTS)?;
        log::debug!("mounted {noun} at {at}");
        Ok(())
    }
}
