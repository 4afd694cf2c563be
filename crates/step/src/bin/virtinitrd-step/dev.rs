//! The `/dev` of a step: a file system in memory that ends with the step.
//!
//! It has the devices that every program may expect (Linux kernel doc admin-guide/devices.rst),
//! and none that leads out of the step: no disks, no memory, no log of the kernel. Pseudoterminals
//! are those of a new instance of devpts (kernel doc filesystems/devpts.rst). The terminal of a
//! shell belongs to the machine's instance; in the step it is `/dev/console`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::fault::{self, Describe};
use crate::mounts::{Fixed, NOSUID_NODEV, NOSUID_NOEXEC, bind_mount};
use crate::tree::{self, Point};

/// The file system of `/dev` itself.
pub(crate) const DEV: Fixed =
    Fixed { at: "/dev", kind: "tmpfs", flags: MsFlags::MS_NOSUID, data: "mode=0755" };

/// File systems below `/dev`; their paths are relative to it. The group 5 is that of terminals
/// in all usual distributions.
#[rustfmt::skip]
const MOUNTS: &[Fixed] = &[
    Fixed { at: "pts", kind: "devpts", flags: NOSUID_NOEXEC, data: "newinstance,ptmxmode=0666,mode=620,gid=5" },
    Fixed { at: "shm", kind: "tmpfs",  flags: NOSUID_NODEV,  data: "mode=1777" },
];

/// Permissions of every node: all users may read and write.
const NODE_MODE: u32 = 0o666;

/// A character device.
struct Node {
    name: &'static str,
    major: u64,
    minor: u64,
}

/// Devices of every step.
#[rustfmt::skip]
const NODES: &[Node] = &[
    Node { name: "null",    major: 1, minor: 3 },
    Node { name: "zero",    major: 1, minor: 5 },
    Node { name: "full",    major: 1, minor: 7 },
    Node { name: "random",  major: 1, minor: 8 },
    Node { name: "urandom", major: 1, minor: 9 },
    Node { name: "tty",     major: 5, minor: 0 },
];

/// Links in `/dev`, and their targets.
#[rustfmt::skip]
const LINKS: &[(&str, &str)] = &[
    ("fd",     "/proc/self/fd"),
    ("stdin",  "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx",   "pts/ptmx"),
];

/// Name of the terminal of a shell.
const CONSOLE: &str = "console";

/// Fills the empty file system at `dev`. `terminal` is the path in the machine of a shell's
/// terminal.
pub(crate) fn fill(dev: &Path, terminal: Option<&Path>) -> Result<()> {
    for Node { name, major, minor } in NODES {
        let node = dev.join(name);
        let describe = || format!("make the device /dev/{name}");
        let number = makedev(*major, *minor);
        mknod(&node, SFlag::S_IFCHR, Mode::empty(), number).describe(describe)?;
        // The mask of this process does not count here.
        fs::set_permissions(&node, Permissions::from_mode(NODE_MODE)).describe(describe)?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).describe(|| format!("make the link /dev/{name}"))?;
    }
    for Fixed { at, kind, flags, data } in MOUNTS {
        let target = dev.join(at);
        tree::make(&target)?;
        fault::mount(Path::new(kind), &target, kind, *flags, data)?;
    }
    terminal.map_or(Ok(()), |terminal| {
        let console = dev.join(CONSOLE);
        tree::make_point(&console, Point::File)?;
        bind_mount(terminal, &console)
    })
}
