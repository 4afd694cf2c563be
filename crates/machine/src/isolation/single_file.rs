//! A directory that contains one file of the host and nothing else, in the mount namespace of
//! one daemon.
//!
//! Interface: mount(2).
//!
//! Invariant: after [`mount`], [`FILE_DIR`] is a read-only file system of its own, in which the
//! only name is [`VOLUME_FILE`]. A guest that finds a hole in the daemon's look-ups finds no
//! other file of the host there.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount as mount_2};
use proto::volume::VOLUME_FILE;

use super::private_mounts::NOTHING;
use crate::plan::shares::FILE_DIR;

/// Options of the file system (tmpfs(5)): it holds one empty file.
pub(crate) const OPTIONS: &str = "mode=755,size=4k";

/// Mounts `file` at [`VOLUME_FILE`] in [`FILE_DIR`], for this process and its children, which
/// must have a mount namespace of their own ([`super::private_mounts::enter`]).
///
/// # Errors
/// `file` is not a regular file any more, or mount(2) failed.
pub fn mount(file: &Path) -> Result<()> {
    // Open the file before the directory is covered: the file may be below it.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let source = File::options().read(true).custom_flags(flags.bits()).open(file);
    let source = source.context("open it")?;
    ensure!(source.metadata().context("look at it")?.is_file(), "it is not a regular file");
    let own = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_2(Some("none"), FILE_DIR, Some("tmpfs"), own, Some(OPTIONS))
        .with_context(|| format!("mount a tmpfs at {FILE_DIR}"))?;
    let target = Path::new(FILE_DIR).join(OsStr::from_bytes(VOLUME_FILE.to_bytes()));
    File::create_new(&target).with_context(|| format!("make {}", target.display()))?;
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount_2(Some(&*source), &target, NOTHING, MsFlags::MS_BIND, NOTHING)
        .with_context(|| format!("bind it to {}", target.display()))?;
    let read_only = own | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount_2(NOTHING, FILE_DIR, NOTHING, read_only, NOTHING)
        .with_context(|| format!("mount {FILE_DIR} read-only"))
}
