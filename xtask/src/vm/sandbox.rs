//! How virtiofsd may lock itself up on this host.
//!
//! Interfaces: capabilities(7), user_namespaces(7), proc_pid_mounts(5).

use std::path::Path;

use super::child;

/// How a daemon locks itself into the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Mount, PID and network namespaces; pivot_root(2).
    Namespace,
    /// chroot(2), where a container forbids namespaces.
    Chroot,
    /// Not at all, where not even a user namespace can be had; only the Rust one can.
    None,
}

/// What is allowed here.
#[must_use]
pub fn of_host(is_root: bool) -> Sandbox {
    match is_root {
        true => roots(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
        false => users(&std::fs::read("/proc/self/mounts").unwrap_or_default()),
    }
}

/// Root in a container without CAP_SYS_ADMIN may not make namespaces.
fn roots(status: &str) -> Sandbox {
    /// capabilities(7), `include/uapi/linux/capability.h`
    const CAP_SYS_ADMIN: u32 = 21;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let may = effective.is_none_or(|bits| bits >> CAP_SYS_ADMIN & 1 == 1);
    if may { Sandbox::Namespace } else { Sandbox::Chroot }
}

/// The sandbox of namespaces mounts a /proc, which the kernel allows to root of
/// a user namespace only where no part of the present one is hidden, as it is in
/// containers (`mount_too_revealing` in fs/namespace.c).
fn users(mounts: &[u8]) -> Sandbox {
    /// Directories that are always empty: a mount there hides nothing.
    const EMPTY: &[&str] = &["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];
    let hides = |at: &Path| {
        at.starts_with("/proc") && at != "/proc" && EMPTY.iter().all(|empty| at != *empty)
    };
    match child::mount_points(mounts).any(|at| hides(&at)) {
        true => Sandbox::Chroot,
        false => Sandbox::Namespace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_need_a_capability_of_root() {
        for (status, expected) in [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", Sandbox::Namespace),
            ("CapEff:\t00000000a80425fb\n", Sandbox::Chroot),
            ("", Sandbox::Namespace),
        ] {
            assert_eq!(roots(status), expected, "{status}");
        }
    }

    #[test]
    fn namespaces_need_a_whole_proc_of_users() {
        for (mounts, expected) in [
            ("proc /proc proc rw 0 0\nx /process tmpfs rw 0 0\n", Sandbox::Namespace),
            (
                "proc /proc proc rw 0 0\nb /proc/sys/fs/binfmt_misc autofs rw 0 0\n",
                Sandbox::Namespace,
            ),
            ("proc /proc proc rw 0 0\ntmpfs /proc/scsi tmpfs ro 0 0\n", Sandbox::Chroot),
        ] {
            assert_eq!(users(mounts.as_bytes()), expected, "{mounts}");
        }
    }
}
