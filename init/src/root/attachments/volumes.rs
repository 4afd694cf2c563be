//! Volumes: shares that `chrootvm --volume` mounts at a path of the root.

use proto::settings::Volume;
use proto::tag::Tag;

use crate::cmdline::Config;
use crate::report::watch::{self, BootStep};
use crate::root::attachments::shares::mount_flags;
use crate::root::attachments::staging::{STAGE, StagedMount};
use crate::root::attachments::virtiofs;
use crate::root::new_root::NewRoot;
use crate::sys::error::Result;

/// Mounts all volumes in their order. `/run` and `/tmp` must have moved into the root: a
/// volume may lie below them.
pub fn mount_all(volumes: &[Volume<'_>], new_root: &NewRoot, config: &Config<'_>) -> Result<()> {
    for volume in volumes {
        watch::enter(BootStep::MountShare);
        let tag = Tag::parse(volume.tag)?;
        let flags = mount_flags(volume.access);
        let staged = StagedMount::new(&|| virtiofs::mount(tag, STAGE, flags, config.wait))?;
        staged.place(new_root, volume.path, "a volume")?;
    }
    Ok(())
}
