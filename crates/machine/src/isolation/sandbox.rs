//! Limits of this host for virtiofsd: the strictest sandbox that the host allows, and the
//! capabilities that root lacks here.
//!
//! Interfaces: capabilities(7), user_namespaces(7).

use std::path::Path;

use super::mounts::{self, Mount};
use crate::plan::virtiofsd::Sandbox;

/// Strictest sandbox that this host allows; `is_root` tells whether root starts the daemon.
#[must_use]
pub fn of_host(is_root: bool) -> Sandbox {
    match is_root {
        true => for_root(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
        false => for_user(&mounts::of_this_process().unwrap_or_default()),
    }
}

/// Capabilities in the default set of the Rust daemon that this process lacks, as root in a
/// container does, in the daemon's spelling. The daemon ends if it asks for a capability and
/// does not get it (`setup_capabilities` in its src/main.rs).
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    missing(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn missing(status: &str) -> Vec<&'static str> {
    /// The default set: each capability's name and number (`include/uapi/linux/capability.h`).
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

/// Sandbox for a daemon of root with this `/proc/PID/status`. Making namespaces needs
/// CAP_SYS_ADMIN, which root in a container may lack.
fn for_root(status: &str) -> Sandbox {
    /// Number of the capability (`include/uapi/linux/capability.h`).
    const CAP_SYS_ADMIN: u32 = 21;
    if has_capability(status, CAP_SYS_ADMIN) { Sandbox::Namespace } else { Sandbox::Chroot }
}

/// Whether a process with this `/proc/PID/status` has a capability; true if the file has no
/// `CapEff` line.
fn has_capability(status: &str, number: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_none_or(|bits| bits >> number & 1 == 1)
}

/// Sandbox for a daemon of an ordinary user with the mount table `mounts`. In the sandbox of
/// namespaces, the daemon mounts a new /proc. The kernel allows that to root of a user
/// namespace only if no mount hides a part of the present /proc, as mounts do in containers
/// (`mount_too_revealing()` of fs/namespace.c).
fn for_user(mounts: &[Mount]) -> Sandbox {
    /// Directories of /proc that are always empty, so that a mount there hides nothing.
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
    fn root_needs_a_capability_to_make_namespaces() {
        for (status, expected) in [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", Sandbox::Namespace),
            ("CapEff:\t00000000a80425fb\n", Sandbox::Chroot),
            ("", Sandbox::Namespace),
        ] {
            assert_eq!(for_root(status), expected, "{status}");
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
    fn an_ordinary_user_needs_a_proc_without_mounts() {
        for (mounts, expected) in [
            (["/proc", "/process"], Sandbox::Namespace),
            (["/proc", "/proc/sys/fs/binfmt_misc"], Sandbox::Namespace),
            (["/proc", "/proc/scsi"], Sandbox::Chroot),
        ] {
            let table = mounts.map(|at| format!("2 1 0:1 / {at} rw - tmpfs none rw\n")).concat();
            assert_eq!(for_user(&mounts::parse(table.as_bytes())), expected, "{mounts:?}");
        }
    }
}
