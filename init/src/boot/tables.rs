//! Tables of the file systems, device nodes and links that every boot makes before it
//! mounts the root.
//!
//! Sources: the File Hierarchy Standard, systemd's API file systems (file-hierarchy(7)),
//! kernel doc admin-guide/devices.txt, and osbuild/initrd, which makes the same nodes and
//! links.

use core::ffi::CStr;

use rustix::mount::MountFlags;

/// Whether the boot needs a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// If the row fails, the boot ends.
    Must,
    /// If the row fails, the boot goes on with a debug message.
    May,
}

/// A pseudo file system.
#[derive(Debug)]
pub struct ApiMount {
    /// Mount point; a missing directory is made.
    pub at: &'static CStr,
    /// File system type, also given as the source.
    pub fs: &'static CStr,
    /// mount(2) flags.
    pub flags: MountFlags,
    /// mount(2) data.
    pub data: Option<&'static CStr>,
    /// Whether the boot needs the file system.
    pub need: Need,
}

const NOSUID: MountFlags = MountFlags::NOSUID;
const NOSUID_NODEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NOSUID_NOEXEC: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const NOSUID_NODEV_NOEXEC: MountFlags = NOSUID_NODEV.union(MountFlags::NOEXEC);

/// The row of `/proc`, which is mounted first because the command line is read from it.
pub const PROC: ApiMount = ApiMount {
    at: c"/proc",
    fs: c"proc",
    flags: NOSUID_NODEV_NOEXEC,
    data: None,
    need: Need::Must,
};

/// All other rows in mount order. The option `seclabel` is absent because it gives EINVAL
/// without SELinux.
#[rustfmt::skip]
pub const API_MOUNTS: &[ApiMount] = &[
    ApiMount { at: c"/sys",           fs: c"sysfs",    flags: NOSUID_NODEV_NOEXEC, data: None,                             need: Need::Must },
    ApiMount { at: c"/dev",           fs: c"devtmpfs", flags: NOSUID,              data: Some(c"mode=0755"),               need: Need::Must },
    ApiMount { at: c"/sys/fs/cgroup", fs: c"cgroup2",  flags: NOSUID_NODEV_NOEXEC, data: None,                             need: Need::May },
    ApiMount { at: c"/dev/pts",       fs: c"devpts",   flags: NOSUID_NOEXEC,       data: Some(c"gid=5,mode=620,ptmxmode=666"), need: Need::May },
    ApiMount { at: c"/dev/shm",       fs: c"tmpfs",    flags: NOSUID_NODEV,        data: Some(c"mode=1777"),               need: Need::May },
    ApiMount { at: c"/run",           fs: c"tmpfs",    flags: NOSUID_NODEV,        data: Some(c"mode=0755"),               need: Need::Must },
    ApiMount { at: c"/tmp",           fs: c"tmpfs",    flags: NOSUID_NODEV,        data: Some(c"mode=1777"),               need: Need::Must },
];

/// A character device.
#[derive(Debug)]
pub struct Node {
    /// Path.
    pub path: &'static CStr,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits; they are set in spite of the umask, and on an existing node too.
    pub mode: u32,
}

/// Nodes of drivers that the payload may load later. Opening a node loads its module
/// (`devname:` aliases of modules.devname).
#[rustfmt::skip]
pub const NODES: &[Node] = &[
    Node { path: c"/dev/kvm",          major: 10, minor: 232, mode: 0o660 },
    Node { path: c"/dev/loop-control", major: 10, minor: 237, mode: 0o660 },
    Node { path: c"/dev/fuse",         major: 10, minor: 229, mode: 0o666 },
];

/// A symbolic link.
#[derive(Debug)]
pub struct Link {
    /// Path.
    pub path: &'static CStr,
    /// Target of the link.
    pub target: &'static CStr,
}

/// The links in `/dev` that every Unix program may rely on.
#[rustfmt::skip]
pub const LINKS: &[Link] = &[
    Link { path: c"/dev/fd",     target: c"/proc/self/fd" },
    Link { path: c"/dev/stdin",  target: c"/proc/self/fd/0" },
    Link { path: c"/dev/stdout", target: c"/proc/self/fd/1" },
    Link { path: c"/dev/stderr", target: c"/proc/self/fd/2" },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::switch::SURVIVORS;

    /// A mount below another must come after it, or the other would hide it.
    #[test]
    fn parents_are_mounted_first() {
        for (index, row) in API_MOUNTS.iter().enumerate() {
            let hidden = API_MOUNTS.iter().skip(index).any(|later| {
                later.at.to_bytes() != row.at.to_bytes()
                    && row.at.to_bytes().starts_with(later.at.to_bytes())
            });
            assert!(!hidden, "{:?}", row.at);
        }
    }

    /// Every mount must move into the new root, by itself or below another.
    #[test]
    fn every_mount_survives() {
        for row in API_MOUNTS.iter().chain([&PROC]) {
            let moved =
                SURVIVORS.iter().any(|survivor| row.at.to_bytes().starts_with(survivor.to_bytes()));
            assert!(moved, "{:?}", row.at);
        }
    }
}
