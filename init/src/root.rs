//! The new root: mounting it, filling it, and making it `/`.
//!
//! Interfaces: mount(2), move_mount(2), openat2(2) (Linux 5.6), pivot by
//! `MS_MOVE` and chroot(2) as kernel doc filesystems/ramfs-rootfs-initramfs.rst
//! asks for (pivot_root(2) cannot leave an initramfs).
//!
//! Invariant: every path inside the new root is resolved by the kernel with
//! `RESOLVE_IN_ROOT`, so that an absolute link in it never leads into the
//! initramfs.

use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags};
use virtinitrd_proto::access::Access;
use virtinitrd_proto::text::show;

use crate::cmdline::Config;
use crate::error::{Context, Error, Hints, Result, hint_for};
use crate::log::Log;
use crate::root_words::Root;
use crate::tables::SURVIVORS;
use crate::watch::{self, Step};
use crate::{block, file, initramfs, overlay, program, virtiofs, wait};

/// Where the new root is mounted until it becomes `/`.
pub const SYSROOT: &CStr = c"/sysroot";

/// Where extra mounts go, each in a directory named by its tag.
const SHARES_DIR: &CStr = c"/run/mnt";

/// Where the root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To be mounted at `/sysroot`, for `/` is the initramfs.
    Sysroot,
    /// It is `/`: the kernel has mounted it, and executes us from there.
    Slash,
}

/// How the new root becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is moved there, and the initramfs freed.
    Move,
    /// It was mounted on it, and is entered.
    Enter,
    /// It is it.
    Stay,
}

/// The mounted root, perhaps not yet `/`.
#[derive(Debug)]
pub struct NewRoot {
    dir: OwnedFd,
    way: Way,
}

impl Place {
    /// Looks at `/`.
    pub fn find() -> Result<Self> {
        Ok(if initramfs::is_root()? { Self::Sysroot } else { Self::Slash })
    }
}

/// Mounts the root, unless it is there, with an overlay over it where the command
/// line asks for one.
pub fn mount(place: Place, config: &Config<'_>, log: &Log) -> Result<NewRoot> {
    let root = match place {
        Place::Sysroot => mount_at_sysroot(config, log)?,
        Place::Slash => NewRoot::open(c"/", Way::Stay)?,
    };
    let Some(size) = config.overlay else { return Ok(root) };
    overlay::cover(&root.dir, "the root", Some(size).filter(|size| !size.is_empty()))?;
    let root = match place {
        Place::Sysroot => NewRoot::open(SYSROOT, Way::Move)?,
        // `..` finds what is mounted on `/` itself (`follow_dotdot()`, fs/namei.c).
        Place::Slash => NewRoot::open(c"/..", Way::Enter)?,
    };
    for survivor in SURVIVORS {
        // Where there is something else in its place the root does without.
        let _ = root.make_directory(survivor.to_bytes());
    }
    Ok(root)
}

fn mount_at_sysroot(config: &Config<'_>, log: &Log) -> Result<NewRoot> {
    make_directory(SYSROOT)?;
    let flags = mount_flags(config.root_access);
    match config.root {
        Root::Virtiofs(tag) => {
            watch::enter(Step::MountRoot);
            virtiofs::mount(tag, SYSROOT, flags, config.wait, log)?;
            log.debug(format_args!("mounted the root, virtiofs tag {tag}"));
        }
        Root::Block(disk) => {
            watch::enter(Step::MountDisk);
            wait::sleep(config.root_delay);
            block::mount(&disk, SYSROOT, SYSROOT.to_bytes(), flags, config.root_wait, log)?;
        }
        Root::Initramfs => initramfs::mount_itself(SYSROOT)?,
    }
    NewRoot::open(SYSROOT, Way::Move)
}

/// Mounts each `mount=` and `mount-ro=` below `/run/mnt`.
pub fn mount_shares(config: &Config<'_>, log: &Log) -> Result<()> {
    for share in &config.shares {
        watch::enter(Step::MountShare);
        let at = file::c_string(&[SHARES_DIR.to_bytes(), b"/", share.tag.as_bytes()]);
        let at = at.context(format_args!("name the mount of {}", share.tag))?;
        make_directory(SHARES_DIR)?;
        make_directory(&at)?;
        virtiofs::mount(share.tag, &at, mount_flags(share.access), config.wait, log)?;
        log.debug(format_args!("mounted {} at {}", share.tag, show(at.to_bytes())));
    }
    Ok(())
}

fn make_directory(path: &CStr) -> Result<()> {
    file::mkdir(path).context(format_args!("make {}", show(path.to_bytes())))
}

/// What mount(2) knows of `access`.
#[must_use]
pub fn mount_flags(access: Access) -> MountFlags {
    match access {
        Access::ReadOnly => MountFlags::RDONLY,
        Access::ReadWrite => MountFlags::empty(),
    }
}

impl NewRoot {
    fn open(path: &CStr, way: Way) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(|dir| Self { dir, way })
            .context(format_args!("open the root directory"))
    }

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

    /// The contents of a file of the root, which may be anything; `None` where
    /// there is no such file.
    pub fn read(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        match self.open_inside(path, file::UNTRUSTED) {
            Ok(fd) => file::read_regular_fd(&fd).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether what is written to `dir` is forgotten at the end: an overlay is
    /// one of ours.
    pub fn owns(&self, dir: &OwnedFd) -> Result<bool, Errno> {
        const OWN: &[u32] =
            &[initramfs::RAMFS_MAGIC, initramfs::TMPFS_MAGIC, initramfs::OVERLAYFS_MAGIC];
        Ok(OWN.contains(&initramfs::fs_magic(dir)?))
    }

    /// Moves the pseudo file systems into the new root. One for which it has no
    /// directory of its own is detached; it lives on only where a descriptor
    /// holds it.
    pub fn move_mounts(&self, config: &Config<'_>, log: &Log) -> Result<()> {
        let moved = match self.way {
            Way::Move | Way::Enter => SURVIVORS,
            Way::Stay => &[],
        };
        for &from in moved {
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

    /// Makes the new root `/`, and frees the initramfs where that is not it.
    pub fn switch(self, config: &Config<'_>, log: &Log) -> Result<()> {
        if self.way == Way::Stay {
            return Ok(());
        }
        let has_initramfs = self.way == Way::Move;
        let initramfs_stays = has_initramfs && config.root == Root::Initramfs;
        if has_initramfs && !initramfs_stays {
            initramfs::free(log)?;
        }
        rustix::process::fchdir(&self.dir).context(format_args!("enter the new root"))?;
        if has_initramfs {
            rustix::mount::mount_move(c".", c"/")
                .context(format_args!("move the new root to /"))?;
        }
        rustix::process::chroot(c".").context(format_args!("chroot to the new root"))?;
        rustix::process::chdir(c"/").context(format_args!("enter /"))?;
        match (initramfs_stays, config.overlay) {
            (false, _) => Ok(()),
            (true, None) => initramfs::settle(config.root_access),
            (true, Some(_)) => initramfs::settle(Access::ReadWrite),
        }
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
