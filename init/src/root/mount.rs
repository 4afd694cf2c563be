//! Mounting the root: one arm of `mount_at_sysroot` for each kind of root.
//!
//! Interface: mount(2).

use core::ffi::CStr;

use proto::access::Access;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cmdline::Config;
use crate::cmdline::root::Root;
use crate::disk;
use crate::report::log;
use crate::report::watch::{self, BootStep};
use crate::root::attachments::shares::mount_flags;
use crate::root::attachments::virtiofs;
use crate::root::initramfs::{self, SYSROOT};
use crate::root::new_root::{NewRoot, SwitchMethod};
use crate::root::overlay;
use crate::root::switch::SURVIVORS;
use crate::sys::error::{Context, Result};
use crate::sys::{file, wait};

/// The file system at `/` when `/init` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootedFrom {
    /// The initramfs: the root is still to be mounted, at `/sysroot`.
    Initramfs,
    /// The root: the kernel has mounted it, and executed `/init` from it.
    Root,
}

impl BootedFrom {
    /// Looks at `/`.
    pub fn find() -> Result<Self> {
        Ok(if initramfs::is_root()? { Self::Initramfs } else { Self::Root })
    }
}

/// Mounts the root, unless the kernel has done so, and an overlay over it, if the command
/// line asks for one.
#[inline(never)]
pub fn mount(booted_from: BootedFrom, config: &Config<'_>) -> Result<NewRoot> {
    let root = match booted_from {
        BootedFrom::Initramfs => mount_at_sysroot(config)?,
        BootedFrom::Root => NewRoot::open(c"/", SwitchMethod::Stay)?,
    };
    let Some(size) = config.overlay else { return with_mount_points(root) };
    let size = Some(size).filter(|size| !size.is_empty());
    overlay::mount_over(&root.dir, &"the root", size)?;
    let root = match root.method {
        // `..` finds what is mounted on `/` itself (`follow_dotdot()`, fs/namei.c).
        SwitchMethod::Stay => NewRoot::open(c"/..", SwitchMethod::Enter)?,
        // The overlay is writable, whatever the initramfs below it is.
        SwitchMethod::MoveInitramfs(_) => {
            NewRoot::open(SYSROOT, SwitchMethod::MoveInitramfs(Access::ReadWrite))?
        }
        method => NewRoot::open(SYSROOT, method)?,
    };
    for survivor in SURVIVORS {
        // If the directory cannot be made, the root goes without this mount.
        let _ = root.make_directory(survivor.to_bytes());
    }
    Ok(root)
}

/// Gives a read-only root the directories of [`SURVIVORS`] that it lacks, if the kernel has
/// overlayfs. Images with a single program have no `/proc` and no `/tmp`.
fn with_mount_points(root: NewRoot) -> Result<NewRoot> {
    let is_missing =
        |path: &CStr| root.locate(path.to_bytes(), OFlags::NOFOLLOW).err() == Some(Errno::NOENT);
    let may_be_added = root.method == SwitchMethod::Move && root.is_read_only(&root.dir);
    if !may_be_added || !SURVIVORS.iter().any(|path| is_missing(path)) {
        return Ok(root);
    }
    match overlay::add_directories(&root.dir, SURVIVORS, &is_missing) {
        Ok(()) => NewRoot::open(SYSROOT, SwitchMethod::Move),
        Err(error) => {
            log::debug!("{error}; going on without mount points");
            Ok(root)
        }
    }
}

fn mount_at_sysroot(config: &Config<'_>) -> Result<NewRoot> {
    file::mkdir(SYSROOT).context(format_args!("make /sysroot"))?;
    let flags = mount_flags(config.root_access);
    let mut method = SwitchMethod::Move;
    match config.root {
        Root::Virtiofs(tag) => {
            watch::enter(BootStep::MountRoot);
            virtiofs::mount(tag, SYSROOT, flags, config.wait)?;
            log::debug!("mounted the root, virtiofs tag {tag}");
        }
        Root::Block(disk) => {
            watch::enter(BootStep::MountDisk);
            wait::sleep(config.root_delay);
            disk::mount::mount(&disk, SYSROOT, SYSROOT.to_bytes(), flags, config.root_wait)?;
        }
        Root::Initramfs => {
            initramfs::mount_itself(SYSROOT)?;
            method = SwitchMethod::MoveInitramfs(config.root_access);
        }
    }
    NewRoot::open(SYSROOT, method)
}
