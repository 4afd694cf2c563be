//! File systems at a path of the root: `virtinit.mount=`.
//!
//! Interface: mount(2).

use alloc::vec::Vec;
use core::time::Duration;

use proto::text::show;
use proto::volume::VolumeKind;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::cmdline::Config;
use crate::cmdline::extra_mount::{ExtraMount, MountSource, PARAMETER};
use crate::cmdline::mount_options::{self, MountOptions};
use crate::disk;
use crate::report::log;
use crate::report::watch::{self, BootStep};
use crate::root::attachments::staging::{ALL, STAGE, StagedMount};
use crate::root::attachments::virtiofs;
use crate::root::new_root::NewRoot;
use crate::sys::error::{Context, Error, Hints, Result};
use crate::sys::file;

/// Hints for a failed mount of a file system that is on no device.
const HINTS: Hints = &[
    (Some(Errno::NODEV), "this kernel does not know that file system type; pack its module"),
    (Some(Errno::INVAL), "an option or the source is wrong"),
];

/// Every `virtinit.mount=` of a machine, from its mount to the end of the machine.
#[derive(Debug)]
pub struct ExtraMounts<'a>(Vec<Entry<'a>>);

/// One mount.
#[derive(Debug)]
struct Entry<'a> {
    description: &'a ExtraMount<'a>,
    /// Present until the mount has its place in the root.
    staged: Option<StagedMount>,
}

impl<'a> ExtraMounts<'a> {
    /// Mounts each `virtinit.mount=` without a path. Call it before `/sys` and `/dev` move:
    /// devices are found there.
    pub fn stage(config: &'a Config<'a>) -> Result<Self> {
        let mut entries = Vec::new();
        for description in &config.mounts {
            match StagedMount::new(&|| mount(description, config.wait), ALL) {
                Ok(staged) => entries.push(Entry { description, staged: Some(staged) }),
                Err(error) => excuse(error, description)?,
            }
        }
        Ok(Self(entries))
    }

    /// Moves the mounts to their paths in the root. `/run` and `/tmp` must have moved into
    /// the root: a path may lie below them.
    pub fn place(&mut self, new_root: &NewRoot) -> Result<()> {
        for Entry { description, staged } in &mut self.0 {
            let Some(staged) = staged.take() else { continue };
            staged
                .place(new_root, description.path, VolumeKind::Directory, PARAMETER)
                .or_else(|error| excuse(error, description))?;
        }
        Ok(())
    }

    /// Writes everything out at the end of a machine, and leaves disks as umount(8) does,
    /// so that no journal has to be replayed.
    pub fn sync_and_unmount(&self) {
        rustix::fs::sync();
        for entry in self.0.iter().rev() {
            let path = file::c_string(&[entry.description.path]);
            // EBUSY: a process still holds the mount; sync(2) has written it out.
            let _ = path.and_then(|path| rustix::mount::unmount(&*path, UnmountFlags::empty()));
        }
        let _ = rustix::mount::mount_remount(c"/", MountFlags::RDONLY, c""); // as above
    }
}

/// Turns the failure of a mount with `nofail` into a warning.
fn excuse(error: Error, extra: &ExtraMount<'_>) -> Result<()> {
    if !mount_options::may_fail(extra.options) {
        return Err(error);
    }
    log::warn!("{error}; going on without (nofail)");
    Ok(())
}

fn mount(extra: &ExtraMount<'_>, wait: Duration) -> Result<()> {
    let ExtraMount { source, path, options } = *extra;
    let MountOptions { flags, data } = MountOptions::parse(options, MountFlags::empty());
    watch::enter(BootStep::MountShare);
    match source {
        MountSource::Tag(tag) => virtiofs::mount(tag, STAGE, flags, wait),
        MountSource::Disk(disk) => {
            watch::enter(BootStep::MountDisk);
            disk::mount::mount(&disk, STAGE, path, MountFlags::empty(), wait)
        }
        MountSource::Other { name, kind } => {
            let mount = || {
                let (name, kind) = (file::c_string(&[name])?, file::c_string(&[kind])?);
                rustix::mount::mount(&*name, STAGE, &*kind, flags, &*file::c_string(&[&data])?)
            };
            let (name, at) = (show(name), show(path));
            mount().hinted(format_args!("mount {PARAMETER}={name} at {at}"), HINTS)
        }
    }
}
