//! What hides parts of the image in every step: its `/dev`, `/proc` and `/sys`, and with
//! [`RunDirectory::Fresh`] its `/run`, where file systems of the kernel are mounted.
//!
//! Files for the network follow (see [`etc`]), and then the mounts of the request.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::mount::MsFlags;
use virtinitrd_step::request::{Request, RunDirectory};

use crate::dev::{self, DEV};
use crate::fault::{self, Describe};
use crate::locate::{locate, within};
use crate::tree::{self, Point};
use crate::{etc, requested};

/// Flags of a file system that has no devices.
pub(crate) const NOSUID_NODEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
/// Flags of a file system that has no programs.
pub(crate) const NOSUID_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
/// Flags of a file system that holds only data.
pub(crate) const NOSUID_NODEV_NOEXEC: MsFlags = NOSUID_NODEV.union(MsFlags::MS_NOEXEC);
const BIND: MsFlags = MsFlags::MS_BIND.union(MsFlags::MS_REC);

/// A file system in every step.
pub(crate) struct Fixed {
    /// Mount point.
    pub(crate) at: &'static str,
    /// Name of the file system.
    pub(crate) kind: &'static str,
    /// Flags of mount(2).
    pub(crate) flags: MsFlags,
    /// Options of mount(2).
    pub(crate) data: &'static str,
}

const SYS: Fixed = Fixed {
    at: "/sys",
    kind: "sysfs",
    flags: NOSUID_NODEV_NOEXEC.union(MsFlags::MS_RDONLY),
    data: "",
};

/// The file system of [`RunDirectory::Fresh`].
const FRESH_RUN: Fixed = Fixed { at: RUN, kind: "tmpfs", flags: NOSUID_NODEV, data: "mode=0755" };

/// File systems in every step with a fresh `/run`. `/proc` is that of the new PID namespace, so
/// its first process mounts it.
const WITH_RUN: &[Fixed] = &[SYS, DEV, FRESH_RUN];

/// File systems in every step with the `/run` of the image.
const WITHOUT_RUN: &[Fixed] = &[SYS, DEV];

const PROC: &str = "/proc";
/// Where programs keep what they need only while they run.
pub(crate) const RUN: &str = "/run";
const RUN_LOCK: &str = "/run/lock";

/// Permissions of a directory that everybody may write to.
const SHARED_MODE: u32 = 0o1777;

/// File systems of a step with this `/run`.
fn fixed(run: RunDirectory) -> &'static [Fixed] {
    match run {
        RunDirectory::Fresh => WITH_RUN,
        RunDirectory::Image => WITHOUT_RUN,
    }
}

/// Makes the mount points that the image at `root` lacks.
pub(crate) fn make_points(request: &Request, root: &Path) -> Result<()> {
    let fixed = fixed(request.run).iter().map(|row| row.at).chain([PROC]);
    let mut hidden = Vec::new();
    for at in fixed {
        let found = locate(root, Path::new(at))?;
        tree::make_point(&within(root, &found), Point::Directory)?;
        hidden.push(found);
    }
    for at in etc::points(request) {
        let found = locate(root, Path::new(at))?;
        // Such a point is made when the file system is mounted that will hide this directory.
        if !hidden.iter().any(|dir| found.starts_with(dir)) {
            tree::make_point(&within(root, &found), Point::File)?;
        }
    }
    requested::make_points(request, root, hidden)
}

/// Mounts everything but `/proc` in the image at `root`, and makes the working directory: it may
/// lie in a mount. `terminal` is the path in the machine of the step's terminal.
pub(crate) fn mount_all(request: &Request, root: &Path, terminal: Option<&Path>) -> Result<()> {
    for Fixed { at, kind, flags, data } in fixed(request.run) {
        let target = target(root, Path::new(at), Point::Directory)?;
        fault::mount(Path::new(kind), &target, kind, *flags, data)?;
    }
    dev::fill(&within(root, &locate(root, Path::new(DEV.at))?), terminal)?;
    if request.run == RunDirectory::Fresh {
        let lock = target(root, Path::new(RUN_LOCK), Point::Directory)?;
        fs::set_permissions(&lock, Permissions::from_mode(SHARED_MODE))
            .describe(|| format!("set the permissions of {RUN_LOCK}"))?;
    }
    etc::mount_all(request, root)?;
    requested::mount_all(request, root)?;
    make_cwd(request, root)
}

/// Makes the working directory if it is missing, as runc does, with mode 755 and for root.
fn make_cwd(request: &Request, root: &Path) -> Result<()> {
    let cwd = Path::new(OsStr::from_bytes(&request.cwd));
    let found = locate(root, cwd)?;
    if found.starts_with(locate(root, Path::new(PROC))?) {
        // It is mounted later, and nothing can be made in it.
        return Ok(());
    }
    let target = within(root, &found);
    // If it is a file, the step's program cannot enter it, and that is reported.
    match target.symlink_metadata() {
        Ok(_) => Ok(()),
        Err(_) => fs::create_dir_all(&target)
            .describe(|| format!("make the working directory {}", cwd.display())),
    }
}

/// Mounts the `/proc` of this process's PID namespace.
pub(crate) fn mount_proc(root: &Path) -> Result<()> {
    let target = target(root, Path::new(PROC), Point::Directory)?;
    fault::mount(Path::new("proc"), &target, "proc", NOSUID_NODEV_NOEXEC, "")
}

/// Mounts a file or directory of the machine.
pub(crate) fn bind_mount(source: &Path, target: &Path) -> Result<()> {
    fault::mount(source, target, "bind", BIND, "")
}

/// Path in the machine of the mount point `at` of the image; it is made if it is missing.
pub(crate) fn target(root: &Path, at: &Path, point: Point) -> Result<PathBuf> {
    let target = within(root, &locate(root, at)?);
    tree::make_point(&target, point)?;
    Ok(target)
}
