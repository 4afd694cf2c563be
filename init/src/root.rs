//! The new root: mounting it, filling it, and making it `/`.
//!
//! Interfaces: mount(2), move_mount(2), openat2(2) (Linux 5.6), pivot by
//! `MS_MOVE` and chroot(2) as kernel doc filesystems/ramfs-rootfs-initramfs.rst
//! asks for (pivot_root(2) cannot leave an initramfs).
//!
//! Invariant: every path inside the new root is resolved by the kernel with
//! `RESOLVE_IN_ROOT`, so that an absolute link in it never leads into the
//! initramfs.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};

use crate::cmdline::{Access, Config};
use crate::error::{Context, Error, Hints, Name, Result, hint_for, show};
use crate::log::Log;
use crate::tables::SURVIVORS;
use crate::tag::Tag;
use crate::wait::{self, Attempt};
use crate::watch::{self, Step};
use crate::{file, overlay, program};

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

/// As [`VIRTIOFS_HINTS`], where the machine has no such device at all.
#[rustfmt::skip]
const NO_VIRTIOFS_DEVICE: Hints = &[
    (Some(Errno::INVAL), "the machine has no virtiofs device, or its transport's module (virtio_pci, virtio_mmio) is not packed"),
];

/// Why a block device does not become the root.
#[rustfmt::skip]
const BLOCK_HINTS: Hints = &[
    (Some(Errno::NOENT),  "no such device; its driver's module (virtio_blk) must be packed, and the host must have attached a disk"),
    (Some(Errno::NXIO),   "no such device; the host must have attached a disk"),
    (Some(Errno::NODEV),  "this kernel does not know that file system type; pack its module"),
    (Some(Errno::INVAL),  "no file system of that type is on it, or a word of rootflags= is wrong"),
    (Some(Errno::NOTBLK), "it is no block device"),
];

/// The mounted new root, not yet `/`.
#[derive(Debug)]
pub struct NewRoot {
    dir: OwnedFd,
    /// Whether what is written to it is forgotten.
    is_overlay: bool,
}

impl NewRoot {
    fn open(is_overlay: bool) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(SYSROOT, flags, Mode::empty())
            .map(|dir| Self { dir, is_overlay })
            .context(format_args!("open the root directory"))
    }
}

/// Covers the root by an overlay where the command line asks for one.
fn finish_root(config: &Config<'_>) -> Result<NewRoot> {
    let Some(size) = config.overlay else { return NewRoot::open(false) };
    overlay::cover(SYSROOT, Some(size).filter(|size| !size.is_empty()))?;
    let root = NewRoot::open(true)?;
    for survivor in SURVIVORS {
        // Where there is something else in its place the root does without.
        let _ = root.make_directory(survivor.to_bytes());
    }
    Ok(root)
}

/// Mounts the virtiofs root at `/sysroot`.
pub fn mount_virtiofs_root(tag: Tag<'_>, config: &Config<'_>, log: &Log) -> Result<NewRoot> {
    make_directory(SYSROOT)?;
    mount_virtiofs(tag, SYSROOT, config.root_access, config.wait, log)?;
    log.debug(format_args!("mounted the root, virtiofs tag {tag}"));
    finish_root(config)
}

/// Mounts the root on a block device at `/sysroot`.
pub fn mount_block_root(
    device: &[u8],
    kind: &[u8],
    options: &[u8],
    config: &Config<'_>,
) -> Result<NewRoot> {
    make_directory(SYSROOT)?;
    let flags = mount_flags(config.root_access);
    let mount = || {
        let [device, kind, options] = [device, kind, options].map(|text| file::c_string(&[text]));
        let (device, kind, options) = (device?, kind?, options?);
        wait::until(config.wait, &[Errno::NOENT, Errno::NXIO], &mut |_| {
            rustix::mount::mount(&*device, SYSROOT, &*kind, flags, &*options)
        })
    };
    mount().hinted(format_args!("mount root={} at /sysroot", show(device)), BLOCK_HINTS)?;
    finish_root(config)
}

/// Mounts each `mount=` and `mount-ro=` below `/run/mnt`.
pub fn mount_shares(config: &Config<'_>, log: &Log) -> Result<()> {
    for share in &config.shares {
        watch::enter(Step::MountShare);
        let at = file::c_string(&[SHARES_DIR.to_bytes(), b"/", share.tag.as_bytes()]);
        let at = at.context(format_args!("name the mount of {}", share.tag))?;
        make_directory(SHARES_DIR)?;
        make_directory(&at)?;
        mount_virtiofs(share.tag, &at, share.access, config.wait, log)?;
        log.debug(format_args!("mounted {} at {}", share.tag, show(at.to_bytes())));
    }
    Ok(())
}

fn make_directory(path: &CStr) -> Result<()> {
    file::mkdir(path).context(format_args!("make {}", show(path.to_bytes())))
}

fn mount_flags(access: Access) -> MountFlags {
    match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    }
}

/// Mounts a tag; one that is not there is waited for. The kernel logs every
/// refusal, so it is asked again only when a device has come, and at the end.
pub fn mount_virtiofs(
    tag: Tag<'_>,
    at: &CStr,
    access: Access,
    wait: Duration,
    log: &Log,
) -> Result<()> {
    /// A device is listed just before its tag is known.
    const TRIES_PER_DEVICE: u32 = 3;
    let flags = mount_flags(access);
    let (mut devices, mut tries) = (virtiofs_devices(), 0);
    // A tag has no NUL.
    let source = file::c_string(&[tag.as_bytes()]).unwrap_or_default();
    let mounted = wait::until(wait, &[Errno::INVAL], &mut |attempt| {
        let now = virtiofs_devices();
        if attempt == Attempt::Second {
            log.debug(format_args!("waiting up to {} s for virtiofs tag {tag}", wait.as_secs()));
        }
        if now != devices {
            (devices, tries) = (now, TRIES_PER_DEVICE);
        }
        if !matches!(attempt, Attempt::First | Attempt::Last) && tries == 0 {
            return Err(Errno::INVAL);
        }
        tries = tries.saturating_sub(1);
        rustix::mount::mount(&*source, at, c"virtiofs", flags, None::<&CStr>)
    });
    let hints = match (mounted, devices) {
        (Err(Errno::INVAL), 0) => NO_VIRTIOFS_DEVICE,
        _ => VIRTIOFS_HINTS,
    };
    mounted.hinted(format_args!("mount virtiofs tag {tag} at {}", show(at.to_bytes())), hints)
}

/// How many devices the virtiofs driver has.
fn virtiofs_devices() -> usize {
    let is_device = |name: &CStr| name.to_bytes().starts_with(b"virtio");
    let names = file::names(c"/sys/bus/virtio/drivers/virtiofs", &is_device);
    names.unwrap_or_default().len()
}

impl NewRoot {
    /// Opens `path` of the new root as a location (`O_PATH`), following links
    /// inside it only.
    pub fn locate(&self, path: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
        self.open_inside(path, OFlags::PATH | extra)
    }

    fn open_inside(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = file::c_string(&[path])?;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.dir, &*path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Whether what is written to `dir` stays in the guest.
    pub fn owns(&self, dir: &OwnedFd) -> Result<bool, Errno> {
        let device = |dir| rustix::fs::fstat(dir).map(|stat| stat.st_dev);
        let is_the_overlay = self.is_overlay && device(dir)? == device(&self.dir)?;
        Ok(is_the_overlay || fs_magic(dir)? == TMPFS_MAGIC)
    }

    /// Moves the pseudo file systems into the new root. One for which it has no
    /// directory of its own is detached; it lives on only where a descriptor
    /// holds it.
    pub fn move_mounts(&self, config: &Config<'_>, log: &Log) -> Result<()> {
        for &from in SURVIVORS {
            let name = show(from.to_bytes());
            let found = self.mount_point(from);
            let found = found.hinted(format_args!("find {name} in the new root"), OPENAT2)?;
            if let Some(to) = found {
                let flags = MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(CWD, from, &to, c"", flags)
                    .context(format_args!("move {name} into the new root"))?;
                continue;
            }
            let holds_shares = SHARES_DIR.to_bytes().starts_with(from.to_bytes());
            if holds_shares && !config.shares.is_empty() {
                let shares = show(SHARES_DIR.to_bytes());
                log.warning(format_args!(
                    "the root has no {name}: the mounts below {shares} are lost"
                ));
            }
            log.debug(format_args!("the root has no {name}; detached"));
            rustix::mount::unmount(from, UnmountFlags::DETACH)
                .context(format_args!("detach {name}"))?;
        }
        Ok(())
    }

    /// Where `path` can be mounted on: a directory, or what a link to one in the
    /// root's own file system leads to. Mounted elsewhere, or on the root itself,
    /// it would hide what is there.
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

    /// Checks that execve(2) has something to execute, and with what.
    pub fn check_payload(&self, path: &[u8]) -> Result<()> {
        let refuse = |errno, hint| {
            Err(Error::sys(format_args!("find init={} in the new root", show(path)), errno, hint))
        };
        let found = self.locate(path, OFlags::empty());
        let stat = match found.and_then(|fd| rustix::fs::fstat(&fd)) {
            Err(errno) => return refuse(errno, hint_for(PAYLOAD_HINTS, errno)),
            Ok(stat) => stat,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return refuse(Errno::ACCESS, "it is no regular file; init= must name a program");
        }
        if stat.st_mode & 0o111 == 0 {
            return refuse(Errno::ACCESS, "it is not executable; chmod +x it");
        }
        let mut head = [0; program::HEAD];
        // What may be executed need not be readable; execve(2) will tell.
        let Ok(length) = self.read_head(path, &mut head) else { return Ok(()) };
        match program::interpreter(head.get(..length).unwrap_or_default()) {
            Err(hint) => refuse(Errno::NOEXEC, hint),
            Ok(None) => Ok(()),
            Ok(Some(interpreter)) => self.locate(interpreter, OFlags::empty()).map(drop).hinted(
                format_args!(
                    "find {}, the interpreter of init={}, in the new root",
                    show(interpreter),
                    show(path)
                ),
                INTERPRETER_HINTS,
            ),
        }
    }

    fn read_head(&self, path: &[u8], head: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(&self.open_inside(path, OFlags::RDONLY)?, head)
    }

    /// Makes the new root `/`.
    pub fn switch(self) -> Result<()> {
        rustix::process::fchdir(&self.dir).context(format_args!("enter the new root"))?;
        rustix::mount::mount_move(c".", c"/").context(format_args!("move the new root to /"))?;
        rustix::process::chroot(c".").context(format_args!("chroot to the new root"))?;
        rustix::process::chdir(c"/").context(format_args!("enter /"))
    }
}

const OPENAT2: Hints = &[(Some(Errno::NOSYS), "Linux 5.6 or newer is needed (openat2)")];

const PAYLOAD_HINTS: Hints = &[
    (Some(Errno::NOENT), "no such file; init= names a program inside the root, or below /run/mnt"),
    (Some(Errno::NOTDIR), "a part of the path is no directory"),
    (Some(Errno::LOOP), "too many symbolic links"),
];

const INTERPRETER_HINTS: Hints =
    &[(Some(Errno::NOENT), "no such file; install it there, or name a program that needs none")];

/// `f_type` of an initramfs (statfs(2), `include/uapi/linux/magic.h`).
const RAMFS_MAGIC: u32 = 0x8584_58f6;
/// As [`RAMFS_MAGIC`], where the kernel uses tmpfs for it.
const TMPFS_MAGIC: u32 = 0x0102_1994;

/// `f_type` of the file system that `fd` is on. Its type differs by
/// architecture; the magic has 32 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fs_magic(fd: &OwnedFd) -> Result<u32, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u32)
}

/// Deletes the initramfs, which gives its memory back. Other file systems
/// mounted below it are left alone.
///
/// Does nothing where `/` is no initramfs: a wrong guess would delete a disk.
pub fn free_initramfs(log: &Log) -> Result<()> {
    try_to_free_initramfs(log).context(format_args!("free the initramfs"))
}

fn try_to_free_initramfs(log: &Log) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(c"/", flags, Mode::empty())?;
    let magic = fs_magic(&root)?;
    if ![RAMFS_MAGIC, TMPFS_MAGIC].contains(&magic) {
        log.warning(format_args!("/ is no initramfs (f_type {magic:#x}); its memory stays used"));
        return Ok(());
    }
    let device = rustix::fs::fstat(&root)?.st_dev;
    if let Err(errno) = remove_below(&root, device) {
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
