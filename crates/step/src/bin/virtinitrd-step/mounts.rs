//! What is mounted in the image of a step: file systems of the kernel, files for the network,
//! binds, caches, secrets.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::mount::MsFlags;
use virtinitrd_step::request::{Access, Bind, Cache, HOSTNAME, Network, Request};

use crate::fault::{self, Describe};
use crate::locate::{locate, within};
use crate::tree::{self, Point};
use crate::user::Ids;
use crate::{layers, paths};

const NOSUID_NODEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NOSUID_NODEV_NOEXEC: MsFlags = NOSUID_NODEV.union(MsFlags::MS_NOEXEC);
const BIND: MsFlags = MsFlags::MS_BIND.union(MsFlags::MS_REC);

/// A file system in every step.
struct Fixed {
    /// Mount point in the image; also the source of a bind, in the machine.
    at: &'static str,
    kind: &'static str,
    flags: MsFlags,
    data: &'static str,
}

/// File systems in every step. `/proc` is that of the new PID namespace, so its first process
/// mounts it.
#[rustfmt::skip]
const FIXED: &[Fixed] = &[
    Fixed { at: "/sys", kind: "sysfs", flags: NOSUID_NODEV_NOEXEC.union(MsFlags::MS_RDONLY), data: "" },
    Fixed { at: "/dev", kind: "bind",  flags: BIND,                                          data: "" },
    Fixed { at: "/dev/shm", kind: "tmpfs", flags: NOSUID_NODEV,                              data: "mode=1777" },
    Fixed { at: "/run", kind: "tmpfs", flags: NOSUID_NODEV,                                  data: "mode=0755" },
];

const PROC: &str = "/proc";
const RUN: &str = "/run";
const RUN_LOCK: &str = "/run/lock";
const SECRETS: &str = "/run/secrets";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Names of the loopback addresses, in a step whose image has no `/etc/hosts`.
const HOSTS_TEXT: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Permissions of a secret.
const SECRET_MODE: u32 = 0o400;

/// Permissions of a directory that everybody may write to.
const SHARED_MODE: u32 = 0o1777;

/// Permissions of a file that everybody may read.
const PUBLIC_MODE: u32 = 0o644;

/// What is mounted at a path of the image for one request.
enum Source<'a> {
    Bind(&'a Bind),
    Cache(&'a Cache),
}

/// Binds and caches with their paths; a path comes before those below it.
fn sources(request: &Request) -> Vec<(&Path, Source<'_>)> {
    let binds = request.binds.iter().map(|bind| (path(&bind.path), Source::Bind(bind)));
    let caches = request.caches.iter().map(|cache| (path(&cache.path), Source::Cache(cache)));
    let mut sources: Vec<_> = binds.chain(caches).collect();
    sources.sort_by_key(|(path, _)| path.components().count());
    sources
}

/// Makes the mount points that the image at `root` lacks.
pub(crate) fn make_points(request: &Request, root: &Path) -> Result<()> {
    let fixed = FIXED.iter().map(|row| row.at).chain([PROC]);
    let mut hidden = Vec::new();
    for at in fixed {
        let found = locate(root, Path::new(at))?;
        tree::make_point(&within(root, &found), Point::Directory)?;
        hidden.push(found);
    }
    let mut points = vec![(Path::new(HOSTS), Point::File)];
    if matches!(request.network, Network::User { .. }) {
        points.push((Path::new(RESOLV_CONF), Point::File));
    }
    for (at, source) in sources(request) {
        let point = match source {
            Source::Bind(bind) => Point::of(path(&bind.source))?,
            Source::Cache(_) => Point::Directory,
        };
        points.push((at, point));
    }
    for (at, point) in points {
        let found = locate(root, at)?;
        // Such a point is made when the file system is mounted that will hide this directory.
        if !hidden.iter().any(|dir| found.starts_with(dir)) {
            tree::make_point(&within(root, &found), point)?;
        }
    }
    Ok(())
}

/// Mounts everything but `/proc` in the image at `root`.
pub(crate) fn mount_all(request: &Request, ids: &Ids, root: &Path) -> Result<()> {
    for Fixed { at, kind, flags, data } in FIXED {
        let target = target(root, Path::new(at), Point::Directory)?;
        let source = if *kind == "bind" { at } else { kind };
        fault::mount(Path::new(source), &target, kind, *flags, data)?;
    }
    let lock = target(root, Path::new(RUN_LOCK), Point::Directory)?;
    fs::set_permissions(&lock, Permissions::from_mode(SHARED_MODE))
        .describe(|| format!("set the permissions of {RUN_LOCK}"))?;
    resolv_conf(request, root)?;
    hosts(request, root)?;
    for (at, source) in sources(request) {
        match source {
            Source::Bind(bind) => mount_bind(bind, root)?,
            Source::Cache(cache) => {
                let target = target(root, at, Point::Directory)?;
                layers::mount_cache(cache.number, cache.device.as_deref(), &target)?;
            }
        }
    }
    secrets(request, ids, root)
}

/// Mounts the `/proc` of this process's PID namespace.
pub(crate) fn mount_proc(root: &Path) -> Result<()> {
    let target = target(root, Path::new(PROC), Point::Directory)?;
    fault::mount(Path::new("proc"), &target, "proc", NOSUID_NODEV_NOEXEC, "")
}

fn mount_bind(bind: &Bind, root: &Path) -> Result<()> {
    let source = path(&bind.source);
    let target = target(root, path(&bind.path), Point::of(source)?)?;
    bind_mount(source, &target)?;
    if bind.access == Access::ReadOnly {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        fault::mount(source, &target, "bind", flags, "")?;
    }
    Ok(())
}

fn bind_mount(source: &Path, target: &Path) -> Result<()> {
    fault::mount(source, target, "bind", BIND, "")
}

/// Gives a step with a network the request's `/etc/resolv.conf`. If that is a link into `/run`,
/// its target is made there.
fn resolv_conf(request: &Request, root: &Path) -> Result<()> {
    let Network::User { resolv_conf } = &request.network else { return Ok(()) };
    let found = locate(root, Path::new(RESOLV_CONF))?;
    if found.starts_with(RUN) {
        let file = target(root, &found, Point::File)?;
        return tree::write(&file, PUBLIC_MODE, resolv_conf);
    }
    let source = Path::new(paths::RESOLV_CONF);
    tree::write(source, PUBLIC_MODE, resolv_conf)?;
    bind_mount(source, &target(root, &found, Point::File)?)
}

/// Gives the step an `/etc/hosts` if that of the image is missing or empty.
fn hosts(request: &Request, root: &Path) -> Result<()> {
    let target = target(root, Path::new(HOSTS), Point::File)?;
    let is_empty = target.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if !is_empty {
        return Ok(());
    }
    let mut text = HOSTS_TEXT.as_bytes().to_vec();
    if request.hostname != HOSTNAME {
        text.extend([b"127.0.1.1\t", &*request.hostname, b"\n"].concat());
    }
    let source = Path::new(paths::HOSTS);
    tree::write(source, PUBLIC_MODE, &text)?;
    bind_mount(source, &target)
}

fn secrets(request: &Request, ids: &Ids, root: &Path) -> Result<()> {
    if request.secrets.is_empty() {
        return Ok(());
    }
    // A cache or a volume may be mounted above.
    let dir = target(root, Path::new(SECRETS), Point::Directory)?;
    fault::mount(Path::new("tmpfs"), &dir, "tmpfs", NOSUID_NODEV_NOEXEC, "mode=0755")?;
    for secret in &request.secrets {
        let file = target(root, &Path::new(SECRETS).join(&secret.name), Point::File)?;
        tree::write(&file, SECRET_MODE, &secret.bytes)?;
        let owned = chown(&file, Some(ids.uid), Some(ids.gid));
        owned.describe(|| format!("set the owner of secret {}", secret.name))?;
    }
    Ok(())
}

/// Path in the machine of the mount point `at` of the image; it is made if it is missing.
fn target(root: &Path, at: &Path, point: Point) -> Result<PathBuf> {
    let target = within(root, &locate(root, at)?);
    tree::make_point(&target, point)?;
    Ok(target)
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
