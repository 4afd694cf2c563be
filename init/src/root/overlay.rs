//! Overlays, which make a directory writable until the end of the machine:
//! `virtinit.overlay[=SIZE]`, `virtinit.etc=overlay` and volumes of images. A further kind
//! gives a read-only root the mount points that it lacks.
//!
//! Interface: kernel doc filesystems/overlayfs.rst. Upper and work directory must be on one
//! file system, here a tmpfs (tmpfs(5)).
//!
//! Invariant: a descriptor names the lower directory, so that no link can lead elsewhere.

use core::ffi::CStr;
use core::fmt::Display;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::sys::error::{Error, Hints, NO_HINT, Result, hint_for, sys_error};
use crate::sys::file;

/// Mount point of the tmpfs while the overlay is made. Later the overlay itself keeps the
/// tmpfs.
const LAYERS: &CStr = c"/run/overlay";

/// Upper directory of the overlay.
const UPPER: &CStr = c"/run/overlay/upper";

/// Work directory of the overlay.
const WORK: &CStr = c"/run/overlay/work";

/// Hints for a failed mount of the tmpfs with the upper layer.
#[rustfmt::skip]
const TMPFS_HINTS: Hints = &[
    (Some(Errno::INVAL), "the size must be bytes, with a suffix k, m or g, or a percentage of memory"),
];

/// Hints for a failed mount of overlayfs. On EINVAL the kernel has logged what the
/// lower layer lacks (`ovl_mount_dir_noesc()`, fs/overlayfs/super.c).
#[rustfmt::skip]
const OVERLAYFS_HINTS: Hints = &[
    (Some(Errno::NODEV), "this kernel has no overlayfs; pack its module (--module overlay)"),
    (Some(Errno::INVAL), "that file system cannot be its lower layer; the kernel's line above says why"),
];

/// Mounts an overlay over the directory `dir`, which messages call `name`. Its upper layer
/// is a tmpfs of `size`, as tmpfs(5) writes sizes; the default is half of the memory.
///
/// # Errors
/// A mount failed; then nothing is mounted.
pub fn mount_over(dir: &OwnedFd, name: &dyn Display, size: Option<&[u8]>) -> Result<()> {
    make(&|| mount_writable(dir), size).map_err(|failed| explain(name, failed))
}

/// Mounts a read-only overlay over the root `dir`, in which it also has those directories of
/// `paths` that `is_wanted`.
///
/// # Errors
/// A mount failed; then nothing is mounted.
pub fn add_directories(
    dir: &OwnedFd,
    paths: &[&CStr],
    is_wanted: &dyn Fn(&CStr) -> bool,
) -> Result<()> {
    let mount = || {
        make_upper(dir, paths, is_wanted).map_err(at("make the upper layer", NO_HINT))?;
        let layers = [b"lowerdir=", UPPER.to_bytes(), b":."];
        mount_overlay(dir, &layers).map_err(at("mount overlayfs", OVERLAYFS_HINTS))
    };
    make(&mount, None).map_err(|failed| explain(&"the root", failed))
}

fn explain(name: &dyn Display, (step, errno, hints): Failed) -> Error {
    let what = format_args!("make the overlay over {name}: {step}");
    sys_error(what, errno, hint_for(hints, errno))
}

/// The step that failed, its errno, and the hints for that step.
type Failed = (&'static str, Errno, Hints);

fn make(mount: &dyn Fn() -> Result<(), Failed>, size: Option<&[u8]>) -> Result<(), Failed> {
    mount_upper(size).map_err(at("mount a tmpfs for what is written", TMPFS_HINTS))?;
    let mounted = mount();
    mounted.and(put_away().map_err(at("put the layers away", NO_HINT)))
}

fn at(step: &'static str, hints: Hints) -> impl FnOnce(Errno) -> Failed {
    move |errno| (step, errno, hints)
}

fn mount_writable(dir: &OwnedFd) -> Result<(), Failed> {
    make_upper(dir, &[], &|_| false).map_err(at("make the upper layer", NO_HINT))?;
    let layers = [b"lowerdir=.,upperdir=", UPPER.to_bytes(), b",workdir=", WORK.to_bytes()];
    mount_overlay(dir, &layers).map_err(at("mount overlayfs", OVERLAYFS_HINTS))
}

fn mount_upper(size: Option<&[u8]>) -> Result<(), Errno> {
    let size = size.map(|size| file::c_string(&[b"size=", size])).transpose()?;
    file::mkdir(LAYERS)?;
    rustix::mount::mount(c"overlay", LAYERS, c"tmpfs", MountFlags::empty(), size.as_deref())
}

/// Makes the upper directory with those of `paths` that `is_wanted`, and the work directory.
fn make_upper(
    dir: &OwnedFd,
    paths: &[&CStr],
    is_wanted: &dyn Fn(&CStr) -> bool,
) -> Result<(), Errno> {
    file::mkdir(UPPER)?;
    file::mkdir(WORK)?;
    for path in paths.iter().filter(|path| is_wanted(path)) {
        file::mkdir(&file::c_string(&[UPPER.to_bytes(), path.to_bytes()])?)?;
    }
    copy_owner(dir)
}

fn mount_overlay(dir: &OwnedFd, layers: &[&[u8]]) -> Result<(), Errno> {
    let options = file::c_string(layers)?;
    rustix::process::fchdir(dir)?;
    rustix::mount::mount(c"overlay", c".", c"overlay", MountFlags::empty(), &*options)
}

fn put_away() -> Result<(), Errno> {
    rustix::process::chdir(c"/")?;
    rustix::mount::unmount(LAYERS, UnmountFlags::DETACH)?;
    rustix::fs::rmdir(LAYERS)
}

/// Gives the upper directory, which becomes the root of the overlay, the owner and the mode
/// of `dir`.
fn copy_owner(dir: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (dir, upper) = (rustix::fs::fstat(dir)?, rustix::fs::open(UPPER, flags, Mode::empty())?);
    let owner = rustix::fs::Uid::from_raw(dir.st_uid);
    let group = rustix::fs::Gid::from_raw(dir.st_gid);
    rustix::fs::fchown(&upper, Some(owner), Some(group))?;
    rustix::fs::fchmod(&upper, Mode::from_raw_mode(dir.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// EINVAL has another meaning for each call.
    #[test]
    fn each_step_has_its_own_hints() {
        let line = |step, errno, hints| explain(&"/etc", (step, errno, hints)).to_string();
        let size = line("mount a tmpfs", Errno::INVAL, TMPFS_HINTS);
        assert!(size.contains("the size must be bytes"), "{size}");
        let lower = line("mount overlayfs", Errno::INVAL, OVERLAYFS_HINTS);
        assert_eq!(
            lower,
            "make the overlay over /etc: mount overlayfs: EINVAL: that file system cannot be its \
             lower layer; the kernel's line above says why"
        );
        let upper = line("make the upper layer", Errno::INVAL, NO_HINT);
        assert_eq!(upper, "make the overlay over /etc: make the upper layer: EINVAL");
    }
}
