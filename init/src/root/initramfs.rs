//! The initramfs: telling whether it is `/`, mounting it as the root, and freeing it.
//!
//! Interfaces: statfs(2), unlinkat(2); kernel doc
//! filesystems/ramfs-rootfs-initramfs.rst.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use proto::access::Access;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::report::log;
use crate::sys::error::{Context, ErrnoName, Result};

/// Mount point of the new root until the root becomes `/`.
pub const SYSROOT: &CStr = c"/sysroot";

/// `f_type` of an initramfs: `RAMFS_MAGIC` (statfs(2), include/uapi/linux/magic.h).
pub const RAMFS_MAGIC: u32 = 0x8584_58f6;
/// `f_type` of an initramfs for which the kernel uses tmpfs: `TMPFS_MAGIC`.
pub const TMPFS_MAGIC: u32 = 0x0102_1994;
/// `f_type` of an overlay: `OVERLAYFS_SUPER_MAGIC`.
pub const OVERLAYFS_MAGIC: u32 = 0x794c_7630;

/// `f_type` of the file system of `fd`. The field's type differs by architecture; the
/// magic has 32 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn fs_magic(fd: &OwnedFd) -> Result<u32, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u32)
}

/// Whether `/` is an initramfs. If not, the kernel has mounted a root itself.
pub fn is_root() -> Result<bool> {
    let magic = open_root().and_then(|root| fs_magic(&root));
    Ok([RAMFS_MAGIC, TMPFS_MAGIC].contains(&magic.context(format_args!("look at /"))?))
}

fn open_root() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(c"/", flags, Mode::empty())
}

/// Mounts the initramfs a second time, at `at`. Unlike the first, this mount has a
/// parent. Without one, pivot_root(2) of a program in the root would fail
/// (`mnt_has_parent()`, fs/namespace.c).
pub fn mount_itself(at: &CStr) -> Result<()> {
    rustix::mount::mount_bind(c"/", at).context(format_args!("mount the initramfs at /sysroot"))
}

/// Finishes the boot in an initramfs that is the root: removes the mount point, and makes
/// the root read-only, if asked.
pub fn finish(access: Access) -> Result<()> {
    // An archive may have brought a /sysroot with files; then it stays.
    let _ = rustix::fs::rmdir(SYSROOT);
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            rustix::mount::mount_remount(c"/", flags, c"").context(format_args!("make / read-only"))
        }
    }
}

/// Deletes all files of the initramfs, which frees their memory. File systems mounted
/// below it stay as they are.
///
/// If `/` is no initramfs, nothing is deleted: it could be a disk.
pub fn free() -> Result<()> {
    if !is_root()? {
        log::warn!("/ is no initramfs; its memory stays used");
        return Ok(());
    }
    let remove_all = || {
        let root = open_root()?;
        remove_below(&root, rustix::fs::fstat(&root)?.st_dev)
    };
    if let Err(errno) = remove_all() {
        let name = ErrnoName(errno);
        log::warn!("free the initramfs: {name}: some of its memory stays used");
    }
    Ok(())
}

/// Removes all files below `dir` that are on `device`. The longest path that the kernel
/// unpacks from an archive (`PATH_MAX`) bounds the depth.
fn remove_below(dir: &OwnedFd, device: u64) -> Result<(), Errno> {
    /// Size in bytes of the buffer for getdents64(2). It is small because the stack
    /// holds one per level.
    const BUFFER: usize = 1024;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if [&b"."[..], b".."].contains(&name.to_bytes()) {
            continue;
        }
        // The directory entries of an initramfs have the file type.
        let removal = if entry.file_type() == FileType::Directory {
            if rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_dev != device {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            remove_below(&rustix::fs::openat(dir, name, flags, Mode::empty())?, device)?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
        } else {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
        };
        match removal {
            // A mount point stays, and so does a directory that holds one.
            Ok(()) | Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
