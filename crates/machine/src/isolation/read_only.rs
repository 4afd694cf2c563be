//! A directory that is read-only for one daemon, whatever the daemon does.
//!
//! Interfaces: mount_namespaces(7), mount(2).
//!
//! Invariant: after [`mount_read_only`] every mount that a path below the directory
//! reaches is read-only, or covered; mounts that another mount hides are left alone,
//! because the daemon opens files by path only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::mounts::{self, Mount};

/// No source, type or data for mount(2).
const NOTHING: Option<&str> = None;

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

/// The path by which a daemon is given `dir`. A new mount on `/` is reached by `/..`
/// only (`follow_dotdot()` of fs/namei.c); QEMU's daemon makes such a mount, and fails
/// if it is given `/`.
#[must_use]
pub fn reachable(dir: &Path) -> PathBuf {
    if dir == Path::new("/") { "/..".into() } else { dir.to_path_buf() }
}

/// Makes `dir`, and all that is mounted below it, read-only for this process and
/// its children, in a mount namespace of their own.
///
/// # Errors
/// Those of unshare(2) and mount(2), with the mount that they are of.
pub fn mount_read_only(dir: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare(CLONE_NEWNS)")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
        .context("make all mounts private")?;
    let top = reachable(dir);
    mount(Some(&*top), &*top, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .context("bind it to itself")?;
    let table = mounts::of_this_process()?;
    let seen = mounts::below(&table, dir);
    ensure!(seen.iter().any(|mount| mount.at == dir), "the new mount is not in the mount table");
    let mut covered: Vec<PathBuf> = Vec::new();
    for one in seen {
        let Some(flags) = remount_flags(one) else { continue };
        let at = below(&top, dir, &one.at)?;
        if covered.iter().any(|cover| at.starts_with(cover)) {
            continue;
        }
        match mount(NOTHING, &at, NOTHING, flags, NOTHING) {
            Err(Errno::EACCES) => covered.push(cover(&at, &top)?),
            result => result.with_context(|| format!("{} ({})", one.at.display(), one.kind))?,
        }
    }
    Ok(())
}

/// The path of mount point `at` under `top`, the other name of `dir`.
fn below(top: &Path, dir: &Path, at: &Path) -> Result<PathBuf> {
    let below = at.strip_prefix(dir).context("a mount is not below the directory")?;
    // `join("")` would end the path with a slash.
    Ok(if below == Path::new("") { top.to_path_buf() } else { top.join(below) })
}

/// Covers a directory between `top` and the mount point `at` by an empty file system,
/// and returns the directory. It keeps this process from `at`, because it is another
/// user's, or another user's FUSE mount. The daemon cannot look into it either, but its
/// owner could change that.
fn cover(at: &Path, top: &Path) -> Result<PathBuf> {
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

/// Flags that make `mount` read-only; `None` if it is already.
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
    fn a_remount_keeps_what_the_mount_has() {
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
    fn mount_points_are_named_under_the_top() {
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

    #[test]
    fn only_the_root_has_another_name() {
        assert_eq!(reachable(Path::new("/")), Path::new("/.."));
        assert_eq!(reachable(Path::new("/srv")), Path::new("/srv"));
    }
}
