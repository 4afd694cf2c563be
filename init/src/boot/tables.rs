//! What every boot makes before the root is mounted: file systems, device
//! nodes, links.
//!
//! Sources: the File Hierarchy Standard, systemd's API file systems
//! (file-hierarchy(7)), kernel doc admin-guide/devices.txt, and osbuild/initrd,
//! whose nodes and links these are.

use core::ffi::CStr;

use rustix::mount::MountFlags;

/// What it means when a row fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The boot ends.
    Must,
    /// The boot goes on; a debug message tells.
    May,
}

/// A pseudo file system.
#[derive(Debug)]
pub struct ApiMount {
    /// Mount point; the directory is made if it is missing.
    pub at: &'static CStr,
    /// File system type, also given as the source.
    pub fs: &'static CStr,
    /// mount(2) flags.
    pub flags: MountFlags,
    /// mount(2) data.
    pub data: Option<&'static CStr>,
    /// What to do without it.
    pub need: Need,
}

const NOSUID: MountFlags = MountFlags::NOSUID;
const NOSUID_NODEV: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const NOSUID_NOEXEC: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const NOSUID_NODEV_NOEXEC: MountFlags = NOSUID_NODEV.union(MountFlags::NOEXEC);

/// `/proc` comes before all else: the command line is read from it.
pub const PROC: ApiMount = ApiMount {
    at: c"/proc",
    fs: c"proc",
    flags: NOSUID_NODEV_NOEXEC,
    data: None,
    need: Need::Must,
};

/// In mount order. The option `seclabel` is EINVAL without SELinux, hence absent.
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
    /// Where.
    pub path: &'static CStr,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits, whatever the umask or an existing node says.
    pub mode: u32,
}

/// Nodes that modules of the payload's own serve later; opening one loads its
/// module (`devname:` aliases of modules.devname).
#[rustfmt::skip]
pub const NODES: &[Node] = &[
    Node { path: c"/dev/kvm",          major: 10, minor: 232, mode: 0o660 },
    Node { path: c"/dev/loop-control", major: 10, minor: 237, mode: 0o660 },
    Node { path: c"/dev/fuse",         major: 10, minor: 229, mode: 0o666 },
];

/// A symbolic link.
#[derive(Debug)]
pub struct Link {
    /// Where.
    pub path: &'static CStr,
    /// What it points to.
    pub target: &'static CStr,
}

/// The links every Unix program may rely on in `/dev`.
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

    /// A mount below another must come after it, or it would be hidden.
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

    /// What is mounted must go into the new root, by itself or below another.
    #[test]
    fn every_mount_survives() {
        for row in API_MOUNTS.iter().chain([&PROC]) {
            let moved =
                SURVIVORS.iter().any(|survivor| row.at.to_bytes().starts_with(survivor.to_bytes()));
            assert!(moved, "{:?}", row.at);
        }
    }
}
