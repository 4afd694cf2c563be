//! One directory that is read-only, in the mount namespace of one daemon.
//!
//! Interface: mount(2).
//!
//! Invariant: after [`mount_read_only`], every mount that a path below the directory reaches
//! is read-only or hidden by an empty mount. Mounts that other mounts already hid stay as they
//! are, because the daemon opens files by path only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::mounts::{self, Mount};
use super::private_mounts::NOTHING;
use crate::plan::virtiofsd_arguments::reachable;

/// `MS_NOSYMFOLLOW` of `include/uapi/linux/mount.h` (Linux 5.10).
const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

/// Flags that a remount must repeat: the kernel would clear an omitted flag, which a
/// user namespace may not do.
const KEPT: &[(&str, MsFlags)] = &[
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("nosymfollow", NOSYMFOLLOW),
];

/// Makes `dir` and every mount below it read-only for this process and its children, which must
/// have a mount namespace of their own ([`super::private_mounts::enter`]).
///
/// # Errors
/// mount(2) failed; the error names the mount.
pub fn mount_read_only(dir: &Path) -> Result<()> {
    let top = reachable(dir);
    mount(Some(&*top), &*top, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .context("bind it to itself")?;
    let table = mounts::of_this_process()?;
    let seen = mounts::below(&table, dir);
    ensure!(seen.iter().any(|mount| mount.at == dir), "the new mount is not in the mount table");
    let mut hidden: Vec<PathBuf> = Vec::new();
    for one in seen {
        let Some(flags) = remount_flags(one) else { continue };
        let at = below(&top, dir, &one.at)?;
        if hidden.iter().any(|dir| at.starts_with(dir)) {
            continue;
        }
        match mount(NOTHING, &at, NOTHING, flags, NOTHING) {
            Err(Errno::EACCES) => hidden.push(hide(&at, &top)?),
            result => result.with_context(|| format!("{} ({})", one.at.display(), one.kind))?,
        }
    }
    Ok(())
}

/// The path of mount point `at` (below `dir`) if `dir` is reached by the path `top`.
fn below(top: &Path, dir: &Path, at: &Path) -> Result<PathBuf> {
    let below = at.strip_prefix(dir).context("a mount is not below the directory")?;
    // `join("")` would end the path with a slash.
    Ok(if below == Path::new("") { top.to_path_buf() } else { top.join(below) })
}

/// Mounts an empty file system over a directory between `top` and the mount point `at`, and
/// returns that directory. Needed if this process may not reach `at`, because the directory
/// or a FUSE mount on it belongs to another user. The daemon cannot look into the directory
/// either, but its owner could allow that later.
fn hide(at: &Path, top: &Path) -> Result<PathBuf> {
    let flags = MsFlags::MS_RDONLY
        .union(MsFlags::MS_NOSUID)
        .union(MsFlags::MS_NODEV)
        .union(MsFlags::MS_NOEXEC);
    let candidates =
        at.ancestors().skip(1).take_while(|above| above.starts_with(top) && *above != top);
    for above in candidates {
        if mount(Some("none"), above, Some("tmpfs"), flags, Some("mode=0")).is_ok() {
            return Ok(above.to_path_buf());
        }
    }
    bail!("{}: EACCES, and nothing can be mounted above it", at.display())
}

/// Flags for mount(2) that make `mount` read-only; `None` if it is read-only already.
fn remount_flags(mount: &Mount) -> Option<MsFlags> {
    let has = |name: &str| mount.options.iter().any(|option| option == name);
    let kept = KEPT.iter().filter(|(name, _)| has(name)).map(|(_, flag)| *flag);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    (!has("ro")).then(|| kept.fold(flags, MsFlags::union))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remount_keeps_the_flags_of_the_mount() {
        let base = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for (options, expected) in [
            ("rw,relatime", Some(base)),
            ("rw,nosuid,noatime,noexec", Some(base | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)),
            ("rw,nodev,nosymfollow", Some(base | MsFlags::MS_NODEV | NOSYMFOLLOW)),
            ("ro,nosuid", None),
        ] {
            let line = format!("1 0 0:1 / / {options} - tmpfs none rw");
            let table = mounts::parse(line.as_bytes());
            assert_eq!(table.first().and_then(remount_flags), expected, "{options}");
        }
    }

    #[test]
    fn mount_points_are_reached_through_the_top() {
        for (dir, at, expected) in [
            ("/", "/", "/.."),
            ("/", "/proc/sys", "/../proc/sys"),
            ("/r", "/r", "/r"),
            ("/r", "/r/a/b", "/r/a/b"),
        ] {
            let dir = Path::new(dir);
            let found = below(&reachable(dir), dir, Path::new(at)).unwrap();
            assert_eq!(found.as_os_str(), expected);
        }
        assert!(below(Path::new("/r"), Path::new("/r"), Path::new("/x")).is_err());
    }
}
