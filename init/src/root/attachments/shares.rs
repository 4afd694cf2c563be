//! Shares below `/run/mnt`: `mount=TAG` and `mount-ro=TAG`.
//!
//! Interface: mount(2).

use core::ffi::CStr;

use proto::access::Access;
use proto::text::show;
use rustix::mount::MountFlags;

use crate::cmdline::Config;
use crate::report::log;
use crate::report::watch::{self, BootStep};
use crate::root::attachments::virtiofs;
use crate::sys::error::{Context, Result};
use crate::sys::file;

/// Directory of the mounts; each is mounted in a directory named by its tag.
pub const SHARES_DIR: &CStr = c"/run/mnt";

/// Mounts each `mount=` and `mount-ro=` below [`SHARES_DIR`].
pub fn mount_shares(config: &Config<'_>) -> Result<()> {
    for share in &config.shares {
        watch::enter(BootStep::MountShare);
        let at = file::c_string(&[SHARES_DIR.to_bytes(), b"/", share.tag.as_bytes()]);
        let at = at.context(format_args!("name the mount of {}", share.tag))?;
        make_directory(SHARES_DIR)?;
        make_directory(&at)?;
        virtiofs::mount(share.tag, &at, mount_flags(share.access), config.wait)?;
        log::debug!("mounted {} at {}", share.tag, show(at.to_bytes()));
    }
    Ok(())
}

/// The mount(2) flags for `access`.
#[must_use]
pub fn mount_flags(access: Access) -> MountFlags {
    match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    }
}

fn make_directory(path: &CStr) -> Result<()> {
    file::mkdir(path).context(format_args!("make {}", show(path.to_bytes())))
}
