//! Mounting a file system first and giving it its place later.
//!
//! Interfaces: open_tree(2), move_mount(2).
//!
//! Invariant: a mount moves from a descriptor to a descriptor, so that no link in the root
//! can lead it elsewhere.

use core::ffi::CStr;

use proto::text::show;
use proto::volume::VolumeKind;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::report::log;
use crate::root::new_root::NewRoot;
use crate::sys::error::{Context, Hints, Result};
use crate::sys::file;

/// Mount point of a file system until it moves to its path in the root.
pub const STAGE: &CStr = c"/run/stage";

/// The whole of a staged file system, as a path in it.
pub const ALL: &CStr = c".";

/// Hint for a path that the root does not have.
const MISSING: &str = "the root lacks it; make it there, mount below /run, or use --overlay";

/// Hints for a failed move to a directory of the root.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOENT),  MISSING),
    (Some(Errno::NOTDIR), "it, or a part of its path, is no directory"),
    (Some(Errno::LOOP),   "too many symbolic links"),
];

/// Hints for a failed move to a file of the root.
#[rustfmt::skip]
const FILE_HINTS: Hints = &[
    (Some(Errno::NOENT),  MISSING),
    (Some(Errno::NOTDIR), "a part of its path is no directory"),
    (Some(Errno::INVAL),  "it is a directory, and the volume is a file"),
    (Some(Errno::LOOP),   "too many symbolic links"),
];

/// A mounted file system that has no path yet.
#[derive(Debug)]
pub struct StagedMount(OwnedFd);

impl StagedMount {
    /// Takes the file system that `mount` mounts at [`STAGE`] away from there. What is not
    /// below `part`, a path in it, has no path any more.
    pub fn new(mount: &dyn Fn() -> Result<()>, part: &CStr) -> Result<Self> {
        file::mkdir(STAGE).context(format_args!("make /run/stage"))?;
        mount().inspect_err(|_| {
            let _ = rustix::fs::rmdir(STAGE); // if it stays, it is empty and does no harm
        })?;
        let take = || {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mounted = rustix::fs::open(STAGE, dir, Mode::empty())
                .and_then(|stage| rustix::mount::open_tree(stage, part, flags));
            rustix::mount::unmount(STAGE, UnmountFlags::DETACH)?;
            rustix::fs::rmdir(STAGE)?;
            mounted.map(Self)
        };
        take().context(format_args!("take the file system mounted at /run/stage"))
    }

    /// Moves the mount to `path` in the root, which is of the same `kind`. `noun` names the mount
    /// in messages.
    pub fn place(
        self,
        new_root: &NewRoot,
        path: &[u8],
        kind: VolumeKind,
        noun: &str,
    ) -> Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let at = show(path);
        let (target, hints) = match kind {
            VolumeKind::Directory => (new_root.make_directory(path), HINTS),
            VolumeKind::File => (new_root.make_file(path), FILE_HINTS),
        };
        target
            .and_then(|target| rustix::mount::move_mount(&self.0, c"", &target, c"", flags))
            .hinted(format_args!("mount {noun} at {at}"), hints)?;
        log::debug!("mounted {noun} at {at}");
        Ok(())
    }
}
