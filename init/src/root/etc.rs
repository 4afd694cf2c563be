//! `/etc` in a read-only root: made writable by `virtinit.etc=`, or for a file that the guest
//! needs in it.
//!
//! All changes are lost at the end of the machine.

use proto::etc::Etc;
use proto::text::show;
use rustix::fs::OFlags;
use rustix::mount::MountFlags;

use crate::report::log;
use crate::root::new_root::NewRoot;
use crate::root::overlay;
use crate::sys::error::{Context, Result};

/// Makes `/etc` of `root` writable.
pub fn mount(etc: Etc, root: &NewRoot) -> Result<()> {
    let dir =
        root.locate(b"/etc", OFlags::DIRECTORY).context(format_args!("find /etc in the root"))?;
    match etc {
        Etc::Overlay => overlay::mount_over(&dir, &"/etc", None),
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

/// Makes `/etc` of a read-only root writable if it lacks the file `path`, so that
/// [`NewRoot::provide_file`] can make it. A kernel without overlayfs is no error: it is not asked
/// to mount one, for which it would look for a module in vain.
pub fn make_room(root: &NewRoot, path: &[u8]) {
    let is_missing = root.locate(path, OFlags::empty()).is_err();
    let dir = root.locate(b"/etc", OFlags::DIRECTORY);
    if is_missing
        && dir.is_ok_and(|dir| root.is_read_only(&dir))
        && has_overlayfs(root)
        && let Err(error) = mount(Etc::Overlay, root)
    {
        log::debug!("{error}; going on without {}", show(path));
    }
}

/// Whether the kernel has overlayfs, by the `/proc` of `root` (proc_filesystems(5)).
fn has_overlayfs(root: &NewRoot) -> bool {
    let list = root.read(b"/proc/filesystems").ok().flatten().unwrap_or_default();
    list.split(|&byte| byte == b'\n').any(|line| line.ends_with(b"\toverlay"))
}
