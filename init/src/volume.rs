//! Directories of the host at a path of the root's own: `chrootvm --volume`.
//!
//! Interfaces: mount(2), move_mount(2).

use core::ffi::CStr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use crate::cmdline::Config;
use crate::error::{Context, Hints, Result, show};
use crate::file;
use crate::log::Log;
use crate::root::{self, NewRoot};
use crate::settings::Volume;
use crate::tag::Tag;
use crate::watch::{self, Step};

/// Where a volume is mounted first: only from there it can be moved to a place
/// that is named by a descriptor, so that no link leads astray.
const STAGE: &CStr = c"/volume";

#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOENT),  "no such directory in the root; make it there, mount below /run, or use --overlay"),
    (Some(Errno::NOTDIR), "it, or a part of its path, is no directory"),
    (Some(Errno::LOOP),   "too many symbolic links"),
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
        let at = show(volume.path);
        let target = new_root
            .make_directory(volume.path)
            .hinted(format_args!("mount a volume at {at}"), HINTS)?;
        file::mkdir(STAGE).context(format_args!("make /volume"))?;
        root::mount_virtiofs(tag, STAGE, volume.access, config.wait, log)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(STAGE, place, Mode::empty())
            .and_then(|mounted| rustix::mount::move_mount(&mounted, c"", &target, c"", flags))
            .context(format_args!("mount a volume at {at}"))?;
        log.debug(format_args!("mounted volume {tag} at {at}"));
    }
    Ok(())
}
