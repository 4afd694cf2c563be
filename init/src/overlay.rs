//! What can be written to and forgets it: `virtinit.overlay[=SIZE]`.
//!
//! Interface: kernel doc filesystems/overlayfs.rst. Upper and work directory
//! must be on one file system, here a tmpfs (tmpfs(5)).
//!
//! Invariant: what is covered is named by a descriptor, so that no link in it
//! leads elsewhere.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Context, Error, Hints, Result, show};
use crate::file;

/// Where the upper layer is mounted while the overlay is made; the overlay
/// itself keeps it afterwards.
const LAYERS: &CStr = c"/run/overlay";

const UPPER: &CStr = c"/run/overlay/upper";

const WORK: &CStr = c"/run/overlay/work";

#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NODEV), "this kernel has no overlayfs; pack its module (overlay.ko)"),
    (Some(Errno::INVAL), "the size must be bytes, with a suffix k, m or g, or a percentage of memory"),
];

/// Covers directory `dir`, which messages call `name`, by an overlay whose upper
/// layer is a tmpfs of `size`, in tmpfs's words; without one half of the memory.
pub fn cover(dir: &OwnedFd, name: &str, size: Option<&[u8]>) -> Result<()> {
    make(dir, size).hinted(format_args!("make the overlay over {name}"), HINTS)
}

fn make(dir: &OwnedFd, size: Option<&[u8]>) -> Result<(), Errno> {
    let size = size.map(|size| file::c_string(&[b"size=", size])).transpose()?;
    file::mkdir(LAYERS)?;
    rustix::mount::mount(c"overlay", LAYERS, c"tmpfs", MountFlags::empty(), size.as_deref())?;
    file::mkdir(UPPER)?;
    file::mkdir(WORK)?;
    copy_owner(dir)?;
    let layers = [b"lowerdir=.,upperdir=", UPPER.to_bytes(), b",workdir=", WORK.to_bytes()];
    let options = file::c_string(&layers)?;
    rustix::process::fchdir(dir)?;
    rustix::mount::mount(c"overlay", c".", c"overlay", MountFlags::empty(), &*options)?;
    rustix::process::chdir(c"/")?;
    rustix::mount::unmount(LAYERS, UnmountFlags::DETACH)?;
    rustix::fs::rmdir(LAYERS)
}

/// The upper layer's top is that of the overlay: it looks as the directory did.
fn copy_owner(dir: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (dir, upper) = (rustix::fs::fstat(dir)?, rustix::fs::open(UPPER, flags, Mode::empty())?);
    let owner = rustix::fs::Uid::from_raw(dir.st_uid);
    let group = rustix::fs::Gid::from_raw(dir.st_gid);
    rustix::fs::fchown(&upper, Some(owner), Some(group))?;
    rustix::fs::fchmod(&upper, Mode::from_raw_mode(dir.st_mode))
}

/// Checks a size before anything is mounted.
///
/// # Errors
/// A comma, which would start another option of tmpfs.
pub fn check_size(size: &[u8]) -> Result<()> {
    match size.contains(&b',') {
        true => Err(Error::new(
            format_args!("virtinit.overlay={}", show(size)),
            "a size of tmpfs has no comma",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_brings_no_other_option() {
        assert!(check_size(b"512m").is_ok() && check_size(b"50%").is_ok());
        assert!(check_size(b"1m,huge=always").is_err());
    }
}
