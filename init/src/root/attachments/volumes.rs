//! Volumes: shares that `chrootvm --volume` mounts at a path of the root.

use core::ffi::CStr;

use proto::tag::Tag;
use proto::volume::{VOLUME_FILE, Volume, VolumeKind};

use crate::cmdline::Config;
use crate::report::watch::{self, BootStep};
use crate::root::attachments::shares::mount_flags;
use crate::root::attachments::staging::{ALL, STAGE, StagedMount};
use crate::root::attachments::virtiofs;
use crate::root::new_root::NewRoot;
use crate::sys::error::Result;

/// Mounts all volumes of this `kind` in their order. `/run` and `/tmp` must have moved into the root: a
/// volume may lie below them.
pub fn mount_all(
    volumes: &[Volume<'_>],
    kind: VolumeKind,
    new_root: &NewRoot,
    config: &Config<'_>,
) -> Result<()> {
    for volume in volumes.iter().filter(|volume| volume.kind == kind) {
        watch::enter(BootStep::MountShare);
        let tag = Tag::parse(volume.tag)?;
        let flags = mount_flags(volume.access);
        let mount = || virtiofs::mount(tag, STAGE, flags, config.wait);
        let part: &CStr = match kind {
            VolumeKind::Directory => ALL,
            VolumeKind::File => VOLUME_FILE,
        };
        let staged = StagedMount::new(&mount, part)?;
        staged.place(new_root, volume.path, kind, "a volume")?;
    }
    Ok(())
}
