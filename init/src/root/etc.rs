//! A writable `/etc` in a read-only root: `virtinit.etc=`.
//!
//! All changes are lost at the end of the machine.

use proto::etc::Etc;
use rustix::fs::OFlags;
use rustix::mount::MountFlags;

use crate::root::new_root::NewRoot;
use crate::root::overlay;
use crate::sys::error::{Context, Result};

/// Makes `/etc` of `root` writable.
pub fn mount(etc: Etc, root: &NewRoot) -> Result<()> {
    let dir =
        root.locate(b"/etc", OFlags::DIRECTORY).context(format_args!("find /etc in the root"))?;
    match etc {
        Etc::Overlay => overlay::mount_over(&dir, "/etc", None),
        Etc::Tmpfs => {
            let mount = || {
                rustix::process::fchdir(&dir)?;
                rustix::mount::mount(
                    c"etc",
                    c".",
                    c"tmpfs",
                    MountFlags::NOSUID | MountFlags::NODEV,
                    c"mode=0755",
                )?;
                rustix::process::chdir(c"/")
            };
            mount().context(format_args!("mount a tmpfs at /etc"))
        }
    }
}
