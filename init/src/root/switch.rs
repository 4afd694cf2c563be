//! Making the new root `/`.
//!
//! Interfaces: move_mount(2), and `MS_MOVE` with chroot(2), as kernel doc
//! filesystems/ramfs-rootfs-initramfs.rst asks for; pivot_root(2) cannot leave an
//! initramfs.

use core::ffi::CStr;

use proto::text::show;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

use crate::cmdline::Config;
use crate::report::log;
use crate::root::attachments::shares::SHARES_DIR;
use crate::root::initramfs;
use crate::root::new_root::{NewRoot, SwitchMethod};
use crate::sys::error::{Context, Hints, Result};

/// Mounts that move into the new root, in this order, with all mounts below them.
pub const SURVIVORS: &[&CStr] = &[c"/run", c"/dev", c"/proc", c"/sys", c"/tmp"];

/// Hints for a failed look-up in the new root.
#[rustfmt::skip]
const OPENAT2_HINTS: Hints = &[
    (Some(Errno::NOSYS), "Linux 5.6 or newer is needed (openat2)"),
    // FUSE has the guest's byte order. Without a good answer to FUSE_INIT, the kernel refuses all
    // requests (fs/fuse/inode.c).
    #[cfg(target_endian = "big")]
    (Some(Errno::CONNREFUSED), "virtiofsd on a little-endian host cannot serve this guest; use a disk"),
];

impl NewRoot {
    /// Moves the pseudo file systems into the new root. If the root has no directory for
    /// one, that file system is detached; it lives on only as long as a descriptor holds
    /// it.
    pub fn move_mounts(&self, config: &Config<'_>) -> Result<()> {
        let moved = match self.method {
            SwitchMethod::Stay => &[],
            _ => SURVIVORS,
        };
        for &from in moved {
            let name = show(from.to_bytes());
            let found = self.mount_point(from);
            let found = found.hinted(format_args!("find {name} in the new root"), OPENAT2_HINTS)?;
            if let Some(to) = found {
                let flags = MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(CWD, from, &to, c"", flags)
                    .context(format_args!("move {name} into the new root"))?;
                continue;
            }
            let holds_shares = SHARES_DIR.to_bytes().starts_with(from.to_bytes());
            if holds_shares && !config.shares.is_empty() {
                let shares = show(SHARES_DIR.to_bytes());
                log::warn!("the root has no {name}: the mounts below {shares} are lost");
            }
            log::debug!("the root has no {name}; detached");
            rustix::mount::unmount(from, UnmountFlags::DETACH)
                .context(format_args!("detach {name}"))?;
        }
        Ok(())
    }

    /// Makes the new root `/`, and frees the initramfs, unless that is the root.
    pub fn switch(self) -> Result<()> {
        match self.method {
            SwitchMethod::Stay => return Ok(()),
            SwitchMethod::Move => initramfs::free()?,
            SwitchMethod::MoveInitramfs(_) | SwitchMethod::Enter => {}
        }
        rustix::process::fchdir(&self.dir).context(format_args!("enter the new root"))?;
        if self.method != SwitchMethod::Enter {
            rustix::mount::mount_move(c".", c"/")
                .context(format_args!("move the new root to /"))?;
        }
        rustix::process::chroot(c".").context(format_args!("chroot to the new root"))?;
        rustix::process::chdir(c"/").context(format_args!("enter /"))?;
        match self.method {
            SwitchMethod::MoveInitramfs(access) => initramfs::finish(access),
            _ => Ok(()),
        }
    }

    /// The mount point `path`: a directory, or the target of a link to a directory in the
    /// root's own file system. `None`: a mount there would hide something else, or the
    /// root itself.
    fn mount_point(&self, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match self.locate(path.to_bytes(), OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(directory) => return Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
        let Ok(target) = self.locate(path.to_bytes(), OFlags::DIRECTORY) else { return Ok(None) };
        let (found, root) = (rustix::fs::fstat(&target)?, rustix::fs::fstat(&self.dir)?);
        let is_inside = found.st_dev == root.st_dev && found.st_ino != root.st_ino;
        Ok(is_inside.then_some(target))
    }
}
