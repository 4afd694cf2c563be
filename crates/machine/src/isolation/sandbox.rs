//! How virtiofsd may lock itself up on this host.
//!
//! Interfaces: capabilities(7), user_namespaces(7).

use std::path::Path;

use super::mounts::{self, Mount};

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
        false => users(&mounts::of_this_process().unwrap_or_default()),
    }
}

/// Capabilities that the Rust daemon asks for by default, in its words, which this
/// process lacks, as root in a container does. The daemon ends where it does not get
/// one (`setup_capabilities` in its src/main.rs).
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    missing(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn missing(status: &str) -> Vec<&'static str> {
    /// Words and numbers: `include/uapi/linux/capability.h`.
    const WANTED: &[(&str, u32)] = &[
        ("chown", 0),
        ("dac_override", 1),
        ("dac_read_search", 2),
        ("fowner", 3),
        ("fsetid", 4),
        ("setgid", 6),
        ("setuid", 7),
        ("mknod", 27),
        ("setfcap", 31),
    ];
    let missing = WANTED.iter().filter(|(_, number)| !has_capability(status, *number));
    missing.map(|(word, _)| *word).collect()
}

/// Root in a container without CAP_SYS_ADMIN may not make namespaces.
fn roots(status: &str) -> Sandbox {
    /// capabilities(7), `include/uapi/linux/capability.h`
    const CAP_SYS_ADMIN: u32 = 21;
    if has_capability(status, CAP_SYS_ADMIN) { Sandbox::Namespace } else { Sandbox::Chroot }
}

/// Whether a process with this `/proc/PID/status` has a capability; true where the
/// file does not tell.
fn has_capability(status: &str, number: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_none_or(|bits| bits >> number & 1 == 1)
}

/// The sandbox of namespaces mounts a /proc, which the kernel allows to root of
/// a user namespace only where no part of the present one is hidden, as it is in
/// containers (`mount_too_revealing` in fs/namespace.c).
fn users(mounts: &[Mount]) -> Sandbox {
    /// Directories that are always empty: a mount there hides nothing.
    const EMPTY: &[&str] = &["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];
    let hides = |at: &Path| {
        at.starts_with("/proc") && at != "/proc" && EMPTY.iter().all(|empty| at != *empty)
    };
    match mounts.iter().any(|mount| hides(&mount.at)) {
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
    fn capabilities_that_containers_lack_are_found() {
        for (name, status, expected) in [
            ("all", "CapEff:\t000001ffffffffff\n", &[][..]),
            ("docker", "CapEff:\t00000000a80425fb\n", &["dac_read_search"]),
            ("podman", "CapEff:\t00000000800405fb\n", &["dac_read_search", "mknod"]),
            ("unknown", "", &[]),
        ] {
            assert_eq!(missing(status), expected, "{name}");
        }
    }

    #[test]
    fn namespaces_need_a_whole_proc_of_users() {
        for (mounts, expected) in [
            (["/proc", "/process"], Sandbox::Namespace),
            (["/proc", "/proc/sys/fs/binfmt_misc"], Sandbox::Namespace),
            (["/proc", "/proc/scsi"], Sandbox::Chroot),
        ] {
            let table = mounts.map(|at| format!("2 1 0:1 / {at} rw - tmpfs none rw\n")).concat();
            assert_eq!(users(&mounts::parse(table.as_bytes())), expected, "{mounts:?}");
        }
    }
}
