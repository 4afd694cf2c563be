//! File systems at a path of the root's own: `chrootvm --volume`,
//! `virtinit.mount=`.
//!
//! Interfaces: mount(2), open_tree(2), move_mount(2).

use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use virtinitrd_proto::settings::Volume;
use virtinitrd_proto::tag::Tag;
use virtinitrd_proto::text::show;

use crate::cmdline::Config;
use crate::error::{Context, Error, Hints, Result};
use crate::extra_mount::{ExtraMount, Source, WORD};
use crate::log::Log;
use crate::mount_options::{self, Options};
use crate::root::{self, NewRoot};
use crate::watch::{self, Step};
use crate::{block, file, virtiofs};

/// Where a file system is mounted first.
const STAGE: &CStr = c"/run/stage";

#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOENT),  "no such directory in the root; make it there, mount below /run, or use --overlay"),
    (Some(Errno::NOTDIR), "it, or a part of its path, is no directory"),
    (Some(Errno::LOOP),   "too many symbolic links"),
];

const OTHER_HINTS: Hints = &[
    (Some(Errno::NODEV), "this kernel does not know that file system type; pack its module"),
    (Some(Errno::INVAL), "an option is wrong, or the source"),
];

/// Mounts all volumes in their order; what is mounted at `/run` and `/tmp` must
/// have moved into the root already.
pub fn mount_all(
    volumes: &[Volume<'_>],
    new_root: &NewRoot,
    config: &Config<'_>,
    log: &Log,
) -> Result<()> {
    for volume in volumes {
        watch::enter(Step::MountShare);
        let tag = Tag::parse(volume.tag)?;
        let flags = root::mount_flags(volume.access);
        let mounted = stage(&|| virtiofs::mount(tag, STAGE, flags, config.wait, log))?;
        place(&mounted, new_root, volume.path, "a volume", log)?;
    }
    Ok(())
}

/// A `virtinit.mount=` that is mounted, but has no path yet.
pub type Staged<'a> = (OwnedFd, &'a ExtraMount<'a>);

/// Mounts each `virtinit.mount=` without a path: a device can be found only as long as
/// `/sys` and `/dev` have not moved.
pub fn stage_extra<'a>(config: &'a Config<'a>, log: &Log) -> Result<Vec<Staged<'a>>> {
    let mut staged = Vec::new();
    for extra in &config.mounts {
        match stage(&|| mount_extra(extra, config.wait, log)) {
            Ok(mounted) => staged.push((mounted, extra)),
            Err(error) => excuse(error, extra, log)?,
        }
    }
    Ok(staged)
}

/// Turns the failure of a mount with `nofail` into a warning.
fn excuse(error: Error, extra: &ExtraMount<'_>, log: &Log) -> Result<()> {
    if !mount_options::may_fail(extra.options) {
        return Err(error);
    }
    log.warning(format_args!("{error}; going on without (nofail)"));
    Ok(())
}

/// Gives them their places; as for volumes, after `/run` and `/tmp`.
pub fn place_extra(staged: &[Staged<'_>], new_root: &NewRoot, log: &Log) -> Result<()> {
    for (mounted, extra) in staged {
        place(mounted, new_root, extra.path, WORD, log)
            .or_else(|error| excuse(error, extra, log))?;
    }
    Ok(())
}

/// The end of a machine: writes everything out, and leaves what is on disks as
/// umount(8) does, so that no journal has to be replayed.
pub fn settle(mounts: &[ExtraMount<'_>]) {
    rustix::fs::sync();
    for extra in mounts.iter().rev() {
        let path = file::c_string(&[extra.path]);
        // One that a process still holds is written out at least.
        let _ = path.and_then(|path| rustix::mount::unmount(&*path, UnmountFlags::empty()));
    }
    let _ = rustix::mount::mount_remount(c"/", MountFlags::RDONLY, c""); // likewise
}

fn mount_extra(extra: &ExtraMount<'_>, wait: Duration, log: &Log) -> Result<()> {
    let ExtraMount { source, path, options } = *extra;
    let Options { flags, data } = Options::parse(options, MountFlags::empty());
    watch::enter(Step::MountShare);
    match source {
        Source::Tag(tag) => virtiofs::mount(tag, STAGE, flags, wait, log),
        Source::Disk(disk) => {
            watch::enter(Step::MountDisk);
            block::mount(&disk, STAGE, path, MountFlags::empty(), wait, log)
        }
        Source::Other { name, kind } => {
            let mount = || {
                let (name, kind) = (file::c_string(&[name])?, file::c_string(&[kind])?);
                rustix::mount::mount(&*name, STAGE, &*kind, flags, &*file::c_string(&[&data])?)
            };
            let (name, at) = (show(name), show(path));
            mount().hinted(format_args!("mount {WORD}={name} at {at}"), OTHER_HINTS)
        }
    }
}

/// What `mount` mounts at [`STAGE`], taken from there: only what a descriptor
/// names can be moved to a place that a descriptor names, so that no link leads
/// astray.
fn stage(mount: &dyn Fn() -> Result<()>) -> Result<OwnedFd> {
    file::mkdir(STAGE).context(format_args!("make /run/stage"))?;
    mount().inspect_err(|_| {
        let _ = rustix::fs::rmdir(STAGE); // if it stays, it is empty and does no harm
    })?;
    let take = || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mounted = rustix::mount::open_tree(CWD, STAGE, flags)?;
        rustix::mount::unmount(STAGE, UnmountFlags::DETACH)?;
        rustix::fs::rmdir(STAGE)?;
        Ok(mounted)
    };
    take().context(format_args!("take what is mounted at /run/stage"))
}

/// Puts what was staged at `path` in the root.
fn place(mounted: &OwnedFd, new_root: &NewRoot, path: &[u8], what: &str, log: &Log) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let at = show(path);
    new_root
        .make_directory(path)
        .and_then(|target| rustix::mount::move_mount(mounted, c"", &target, c"", flags))
        .hinted(format_args!("mount {what} at {at}"), HINTS)?;
    log.debug(format_args!("mounted {what} at {at}"));
    Ok(())
}
