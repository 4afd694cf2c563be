//! Mounting the file system on a block device.
//!
//! Interface: mount(2).

use core::ffi::CStr;
use core::time::Duration;

use proto::text::show;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::cmdline::config::FOREVER;
use crate::cmdline::device::Disk;
use crate::cmdline::mount_options::MountOptions;
use crate::disk::find;
use crate::report::log;
use crate::sys::error::{Context, Error, Hints, Result};
use crate::sys::file;
use crate::sys::wait::{self, Attempt};

/// Hints for a failed mount of a disk.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NODEV),  "this kernel does not know that file system type; pack its module"),
    (Some(Errno::INVAL),  "no file system of that type is on it, or an option is wrong"),
    (Some(Errno::NOTBLK), "it is no block device"),
    (Some(Errno::NODATA), "no file system of a known type is on it (ext2-4, erofs, squashfs, btrfs, xfs): name its type"),
];

/// Errors of a device that may appear later.
const LATE: &[Errno] = &[Errno::NOENT, Errno::NXIO];

/// Mounts `disk` at `at`, which messages call `shown`. A missing device is waited for up
/// to `limit`. A write-protected device is mounted read-only.
pub fn mount(
    disk: &Disk<'_>,
    at: &CStr,
    shown: &[u8],
    flags: MountFlags,
    limit: Duration,
) -> Result<()> {
    let Disk { device, parameter, name, kinds, options } = *disk;
    let MountOptions { flags, data } = MountOptions::parse(options, flags);
    let name = show(name);
    let mounted = wait::until(limit, LATE, &mut |attempt| {
        match (attempt, limit) {
            (Attempt::Second, FOREVER) => {
                log::warn!("waiting for {parameter}={name}; {}", find::list_devices());
            }
            (Attempt::Second, _) => {
                let seconds = limit.as_secs();
                log::debug!("waiting up to {seconds} s for {parameter}={name}");
            }
            _ => {}
        }
        let (path, mut kinds) = (find::locate(&device)?, kinds);
        if kinds.is_empty() {
            find::read_superblock(&path, &mut |found| kinds = found.kind.as_bytes())?;
        }
        mount_as_any(&path, at, kinds, flags, &data)
    });
    match mounted {
        Err(errno) if LATE.contains(&errno) => {
            let noun = device.noun();
            Err(Error::new(
                format_args!("find {parameter}={name}: no such {noun}; {}", find::list_devices()),
                "",
            ))
        }
        _ => mounted
            .hinted(format_args!("mount {parameter}={name} at {}", show(shown)), HINTS)
            .inspect(|()| log::debug!("mounted {parameter}={name} at {}", show(shown))),
    }
}

/// Tries one type after the other until one fits, as the kernel does for its root
/// (`mount_root_generic()`, init/do_mounts.c).
fn mount_as_any(
    path: &CStr,
    at: &CStr,
    kinds: &[u8],
    flags: MountFlags,
    data: &[u8],
) -> Result<(), Errno> {
    let mut refusal = Errno::NODEV;
    for kind in kinds.split(|&byte| byte == b',').filter(|kind| !kind.is_empty()) {
        match mount_as_one(path, at, kind, flags, data) {
            Err(Errno::NODEV) => {}
            Err(Errno::INVAL) => refusal = Errno::INVAL,
            result => return result,
        }
    }
    Err(refusal)
}

fn mount_as_one(
    path: &CStr,
    at: &CStr,
    kind: &[u8],
    flags: MountFlags,
    data: &[u8],
) -> Result<(), Errno> {
    let (kind, data) = (file::c_string(&[kind])?, file::c_string(&[data])?);
    let mount = |flags| rustix::mount::mount(path, at, &*kind, flags, &*data);
    match mount(flags) {
        Err(Errno::ACCESS | Errno::ROFS) => mount(flags | MountFlags::RDONLY),
        result => result,
    }
}
