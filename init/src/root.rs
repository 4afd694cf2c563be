//! The new root: mounting it, filling it, and making it `/`.
//!
//! Interfaces: mount(2), move_mount(2), openat2(2) (Linux 5.6), pivot by
//! `MS_MOVE` and chroot(2) as kernel doc filesystems/ramfs-rootfs-initramfs.rst
//! asks for (pivot_root(2) cannot leave an initramfs).
//!
//! Invariant: every path inside the new root is resolved by the kernel with
//! `RESOLVE_IN_ROOT`, so that an absolute link in it never leads into the
//! initramfs.

use alloc::format;
use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};

use crate::cmdline::{Access, Config, Share};
use crate::error::{Context, Error, Hints, Result};
use crate::file;
use crate::log::Log;
use crate::tables::SURVIVORS;
use crate::tag::Tag;

/// Where the new root is mounted until it becomes `/`.
const SYSROOT: &CStr = c"/sysroot";

/// Where extra mounts go, each in a directory named by its tag.
const SHARES_DIR: &CStr = c"/run/mnt";

/// Why a virtiofs mount fails (`virtio_fs_get_tree()` of `fs/fuse/virtio_fs.c`).
#[rustfmt::skip]
const VIRTIOFS_HINTS: Hints = &[
    (Some(Errno::INVAL), "no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    (Some(Errno::NODEV), "this kernel has no virtiofs; pack its module (virtiofs.ko)"),
    (Some(Errno::NOTCONN), "the host's virtiofsd has gone"),
];

/// The mounted new root, not yet `/`.
#[derive(Debug)]
pub struct NewRoot(OwnedFd);

/// Mounts the root that `config` names at `/sysroot`.
pub fn mount_root(config: &Config<'_>) -> Result<NewRoot> {
    let wrap = || format!("make {}", SYSROOT.to_bytes().escape_ascii());
    file::mkdir(SYSROOT).context(wrap, &[])?;
    mount_virtiofs(config.root, SYSROOT, config.root_access)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(SYSROOT, flags, Mode::empty())
        .map(NewRoot)
        .context(|| "open the root directory".into(), &[])
}

/// Mounts each `mount=` and `mount-ro=` below `/run/mnt`.
pub fn mount_shares(shares: &[Share<'_>], log: &Log) -> Result<()> {
    for share in shares {
        let prefix = [SHARES_DIR.to_bytes(), b"/"].concat();
        let at = file::join(&prefix, share.tag.as_bytes());
        let at = at.context(|| format!("name the mount of {}", share.tag), &[])?;
        let made = file::mkdir(SHARES_DIR).and_then(|()| file::mkdir(&at));
        made.context(|| format!("make {}", at.to_bytes().escape_ascii()), &[])?;
        mount_virtiofs(share.tag, &at, share.access)?;
        log.debug(format_args!("mounted {} at {}", share.tag, at.to_bytes().escape_ascii()));
    }
    Ok(())
}

fn mount_virtiofs(tag: Tag<'_>, at: &CStr, access: Access) -> Result<()> {
    let flags = match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    };
    rustix::mount::mount(tag.as_bytes(), at, c"virtiofs", flags, None::<&CStr>).context(
        || format!("mount virtiofs tag {tag} at {}", at.to_bytes().escape_ascii()),
        VIRTIOFS_HINTS,
    )
}

impl NewRoot {
    /// Opens `path` of the new root as a location (`O_PATH`), following links
    /// inside it only.
    fn locate(&self, path: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | extra;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Moves the pseudo file systems into the new root. One for which it has no
    /// directory is detached; it lives on only where a descriptor holds it.
    pub fn move_mounts(&self, config: &Config<'_>, log: &Log) -> Result<()> {
        for &from in SURVIVORS {
            let show = from.to_bytes().escape_ascii();
            match self.locate(from.to_bytes(), OFlags::DIRECTORY) {
                Ok(to) => {
                    let flags = MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                    rustix::mount::move_mount(CWD, from, &to, c"", flags)
                        .context(|| format!("move {show} into the new root"), &[])?;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    if from.to_bytes() == b"/run" && !config.shares.is_empty() {
                        log.warning(format_args!(
                            "the root has no /run: the mounts below {} are lost",
                            SHARES_DIR.to_bytes().escape_ascii()
                        ));
                    }
                    log.debug(format_args!("the root has no {show}; detached"));
                    rustix::mount::unmount(from, UnmountFlags::DETACH)
                        .context(|| format!("detach {show}"), &[])?;
                }
                Err(errno) => {
                    return Err(errno).context(|| format!("find {show} in the new root"), OPENAT2);
                }
            }
        }
        Ok(())
    }

    /// Checks that execve(2) has something to execute.
    pub fn check_payload(&self, path: &[u8]) -> Result<()> {
        let what = || format!("find init={} in the new root", path.escape_ascii());
        let fd = self.locate(path, OFlags::empty()).context(what, PAYLOAD_HINTS)?;
        let stat = rustix::fs::fstat(&fd).context(what, &[])?;
        let hint = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_mode & 0o111 != 0 => return Ok(()),
            FileType::RegularFile => "it is not executable; chmod +x it",
            _ => "it is no regular file; init= must name a program",
        };
        Err(Error::sys(what(), Errno::ACCESS, hint))
    }

    /// Makes the new root `/`.
    pub fn switch(self) -> Result<()> {
        rustix::process::fchdir(&self.0).context(|| "enter the new root".into(), &[])?;
        rustix::mount::mount_move(c".", c"/").context(|| "move the new root to /".into(), &[])?;
        rustix::process::chroot(c".").context(|| "chroot to the new root".into(), &[])?;
        rustix::process::chdir(c"/").context(|| "enter /".into(), &[])
    }
}

const OPENAT2: Hints = &[(Some(Errno::NOSYS), "Linux 5.6 or newer is needed (openat2)")];

const PAYLOAD_HINTS: Hints = &[
    (Some(Errno::NOENT), "no such file; init= names a program inside the root, or below /run/mnt"),
    (Some(Errno::NOTDIR), "a part of the path is no directory"),
    (Some(Errno::LOOP), "too many symbolic links"),
];

/// `f_type` of an initramfs (statfs(2), `include/uapi/linux/magic.h`).
const RAMFS_MAGIC: u32 = 0x8584_58f6;
/// As [`RAMFS_MAGIC`], where the kernel uses tmpfs for it.
const TMPFS_MAGIC: u32 = 0x0102_1994;

/// Deletes the initramfs, which gives its memory back. Other file systems
/// mounted below it are left alone.
///
/// Does nothing where `/` is no initramfs: a wrong guess would delete a disk.
pub fn free_initramfs(log: &Log) -> Result<()> {
    let what = || "free the initramfs".into();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty()).context(what, &[])?;
    // The type of `f_type` differs by architecture; the magic has 32 bits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let magic = rustix::fs::fstatfs(&root).context(what, &[])?.f_type as u32;
    if ![RAMFS_MAGIC, TMPFS_MAGIC].contains(&magic) {
        log.warning(format_args!("/ is no initramfs (f_type {magic:#x}); its memory stays used"));
        return Ok(());
    }
    let device = rustix::fs::fstat(&root).context(what, &[])?.st_dev;
    if let Err(errno) = remove_below(&root, device) {
        let failed: Result<(), _> = Err(errno);
        if let Err(error) = failed.context(what, &[]) {
            log.warning(format_args!("{error}; some of its memory stays used"));
        }
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
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        let removal = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            remove_below(&rustix::fs::openat(dir, name, flags, Mode::empty())?, device)?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
        } else {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
        };
        match removal {
            // A directory that holds a mount point stays.
            Ok(()) | Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
