//! The initramfs: whether it is what `/` is, and its end.
//!
//! Interfaces: statfs(2), unlinkat(2); kernel doc
//! filesystems/ramfs-rootfs-initramfs.rst.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use virtinitrd_proto::access::Access;

use crate::error::{Context, Name, Result};
use crate::log::Log;
use crate::root::SYSROOT;

/// `f_type` of an initramfs (statfs(2), `include/uapi/linux/magic.h`).
pub const RAMFS_MAGIC: u32 = 0x8584_58f6;
/// As [`RAMFS_MAGIC`], where the kernel uses tmpfs for it.
pub const TMPFS_MAGIC: u32 = 0x0102_1994;
/// Likewise, of an overlay.
pub const OVERLAYFS_MAGIC: u32 = 0x794c_7630;

/// `f_type` of the file system that `fd` is on. Its type differs by
/// architecture; the magic has 32 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn fs_magic(fd: &OwnedFd) -> Result<u32, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u32)
}

/// Whether `/` is an initramfs; else the kernel has mounted a root itself.
pub fn is_root() -> Result<bool> {
    let magic = open_root().and_then(|root| fs_magic(&root));
    Ok([RAMFS_MAGIC, TMPFS_MAGIC].contains(&magic.context(format_args!("look at /"))?))
}

fn open_root() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(c"/", flags, Mode::empty())
}

/// Mounts the initramfs once more, at `at`. Unlike the first this mount has a
/// parent, without which pivot_root(2) refuses it (`mnt_has_parent()`,
/// fs/namespace.c).
pub fn mount_itself(at: &CStr) -> Result<()> {
    rustix::mount::mount_bind(c"/", at).context(format_args!("mount the initramfs at /sysroot"))
}

/// The end of the boot in an initramfs that stays: what was made for it goes,
/// and, where it is to be read only, that it is.
pub fn settle(access: Access) -> Result<()> {
    // As far as it is empty, which an archive's own need not be.
    let _ = rustix::fs::rmdir(SYSROOT);
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            rustix::mount::mount_remount(c"/", flags, c"").context(format_args!("make / read-only"))
        }
    }
}

/// Deletes the initramfs, which gives its memory back. Other file systems
/// mounted below it are left alone.
///
/// Does nothing where `/` is no initramfs: a wrong guess would delete a disk.
pub fn free(log: &Log) -> Result<()> {
    if !is_root()? {
        log.warning(format_args!("/ is no initramfs; its memory stays used"));
        return Ok(());
    }
    let remove_all = || {
        let root = open_root()?;
        remove_below(&root, rustix::fs::fstat(&root)?.st_dev)
    };
    if let Err(errno) = remove_all() {
        let name = Name(errno);
        log.warning(format_args!("free the initramfs: {name}: some of its memory stays used"));
    }
    Ok(())
}

/// Removes all below `dir` that is on `device`. Depth is bounded by the longest
/// path the kernel unpacks from an archive (PATH_MAX).
fn remove_below(dir: &OwnedFd, device: u64) -> Result<(), Errno> {
    /// Bytes of directory entries per getdents64(2); small, for it is on the
    /// stack once per level.
    const BUFFER: usize = 1024;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if [&b"."[..], b".."].contains(&name.to_bytes()) {
            continue;
        }
        // An initramfs tells the type with the name.
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
            // What is a mount point, or a directory that holds one, stays.
            Ok(()) | Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
