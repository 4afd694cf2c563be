//! What a request mounts in the image: binds, caches, temporary file systems, secrets.
//!
//! The order of the mounts is that of [`virtinitrd_step::request::Bind`] and its siblings: by the
//! depth of their paths, where links of the image have been followed. Links that a mount brings
//! along are followed only when something is mounted there; the order does not consider them.
//!
//! No mount point stays that the image lacks. In the image, and in a cache, it is made in a layer
//! of its own (see [`layers`]); in a bind that is only read, or whose changes are dropped, in a
//! layer that is dropped; and a tmpfs ends with the step. It stays only in a writable bind, and below the second path of a cache that is mounted twice.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nix::mount::MsFlags;
use virtinitrd_step::request::{Access, Bind, BindAccess, Cache, Request, Secret, Tmpfs};

use crate::fault;
use crate::locate::{locate, within};
use crate::mounts::{NOSUID_NODEV_NOEXEC, bind_mount, target};
use crate::tree::{self, Point};
use crate::{layers, paths};

/// Options of a tmpfs of the request: everybody may write to it.
const TMPFS_DATA: &str = "mode=1777";

/// Options of the file system with the secrets, which the step's program cannot see.
const SECRETS_DATA: &str = "mode=0700";

/// A mount of the request.
struct Mount<'a> {
    /// Path in the image, as the request has it.
    path: &'a Path,
    /// Where that leads in the image before the mounts of the request.
    found: PathBuf,
    /// What can be mounted on.
    point: Point,
    what: What<'a>,
}

enum What<'a> {
    /// A bind, and its path in the machine.
    Bind(&'a Bind, PathBuf),
    Cache(&'a Cache),
    Tmpfs(&'a Tmpfs),
    Secret(&'a Secret),
}

/// The mounts of a request, in their order for the image at `root`.
fn mounts<'a>(request: &'a Request, root: &Path) -> Result<Vec<Mount<'a>>> {
    let mut mounts = Vec::new();
    let mut add = |path: &'a [u8], point, what| {
        let path = Path::new(OsStr::from_bytes(path));
        let found = locate(root, path)?;
        ensure!(
            found != Path::new("/"),
            "mount at {}: it is the root of the image, and nothing can be mounted there",
            path.display()
        );
        mounts.push(Mount { path, found, point, what });
        Ok(())
    };
    for bind in &request.binds {
        let source = source(Path::new(OsStr::from_bytes(&bind.source)))?;
        add(&bind.path, Point::of(&source)?, What::Bind(bind, source))?;
    }
    for cache in &request.caches {
        add(&cache.path, Point::Directory, What::Cache(cache))?;
    }
    for tmpfs in &request.tmpfs {
        add(&tmpfs.path, Point::Directory, What::Tmpfs(tmpfs))?;
    }
    for secret in &request.secrets {
        add(&secret.path, Point::File, What::Secret(secret))?;
    }
    // The sort is stable.
    mounts.sort_by_key(|mount| mount.found.components().count());
    Ok(mounts)
}

/// The source of a bind. Links in an image are followed inside that image.
fn source(path: &Path) -> Result<PathBuf> {
    let is_disk = |dir: &&Path| {
        let name = dir.file_name().unwrap_or_default().as_bytes();
        dir.parent() == Some(Path::new(paths::STATE)) && name.starts_with(paths::DISK.as_bytes())
    };
    match path.ancestors().find(is_disk) {
        Some(disk) => Ok(within(disk, &locate(disk, path.strip_prefix(disk).unwrap_or(path))?)),
        None => Ok(path.to_owned()),
    }
}

/// Makes the mount points of a request that the image at `root` lacks, but none in the
/// directories `hidden` of the image, which file systems will hide.
pub(crate) fn make_points(request: &Request, root: &Path, hidden: Vec<PathBuf>) -> Result<()> {
    make_points_below(Path::new("/"), &mounts(request, root)?, root, hidden)
}

/// Makes the mount points that are missing in the directory `dir` of the image.
fn make_points_below(
    dir: &Path,
    mounts: &[Mount<'_>],
    root: &Path,
    mut hidden: Vec<PathBuf>,
) -> Result<()> {
    for mount in mounts {
        let found = locate(root, mount.path)?;
        if !found.starts_with(dir) || hidden.iter().any(|above| found.starts_with(above)) {
            continue;
        }
        tree::make_point(&within(root, &found), mount.point)?;
        if mount.point == Point::Directory {
            hidden.push(found);
        }
    }
    Ok(())
}

/// Where one mount goes.
struct Site<'a> {
    /// Path in the machine.
    target: PathBuf,
    /// Path in the image.
    dir: PathBuf,
    /// Root of the image, in the machine.
    root: &'a Path,
    /// The mounts that come after it.
    later: &'a [Mount<'a>],
    /// Number of the step, and of the mount: together they name its files.
    names: [u32; 2],
}

impl Site<'_> {
    /// Whether a later mount goes to a path below.
    fn has_inner(&self) -> bool {
        let is_inner =
            |mount: &Mount<'_>| mount.found.starts_with(&self.dir) && mount.found != self.dir;
        self.later.iter().any(is_inner)
    }

    /// Makes the mount points of later mounts below.
    fn make_inner(&self) -> Result<()> {
        make_points_below(&self.dir, self.later, self.root, Vec::new())
    }
}

/// Mounts all that a request names in the image at `root`.
pub(crate) fn mount_all(request: &Request, root: &Path) -> Result<()> {
    if !request.secrets.is_empty() {
        let dir = Path::new(paths::SECRETS);
        tree::make(dir)?;
        fault::mount(Path::new("tmpfs"), dir, "tmpfs", NOSUID_NODEV_NOEXEC, SECRETS_DATA)?;
    }
    let mounts = mounts(request, root)?;
    let mut rest = mounts.as_slice();
    let mut index = 0;
    let mut caches = HashMap::new();
    while let [mount, later @ ..] = rest {
        let target = target(root, mount.path, mount.point)?;
        let dir = locate(root, mount.path)?;
        let site = Site { target, dir, root, later, names: [request.number, index] };
        match &mount.what {
            What::Bind(bind, source) => mount_bind(bind.access, source, mount.point, &site)?,
            What::Cache(cache) => mount_cache(cache, &site, &mut caches)?,
            What::Tmpfs(tmpfs) => mount_tmpfs(tmpfs, &site.target)?,
            What::Secret(secret) => mount_secret(secret, &site)?,
        }
        index += 1;
        rest = later;
    }
    Ok(())
}

fn mount_bind(access: BindAccess, source: &Path, point: Point, site: &Site<'_>) -> Result<()> {
    let target = &site.target;
    let is_dropped = match access {
        BindAccess::Scratch => true,
        // The mount points below may be missing in the source.
        BindAccess::ReadOnly => point == Point::Directory && site.has_inner(),
        BindAccess::ReadWrite => false,
    };
    match point {
        Point::File if is_dropped => bind_mount(&layers::copy_file(site.names, source)?, target)?,
        Point::Directory if is_dropped => {
            layers::mount_scratch(site.names, source, target)?;
            site.make_inner()?;
        }
        _ => bind_mount(source, target)?,
    }
    match access {
        BindAccess::ReadOnly => forbid_writes(target, MsFlags::empty()),
        BindAccess::ReadWrite | BindAccess::Scratch => Ok(()),
    }
}

/// Mounts a cache; at its further paths, the mount of the first one of `before`.
fn mount_cache(cache: &Cache, site: &Site<'_>, before: &mut HashMap<u32, PathBuf>) -> Result<()> {
    let target = &site.target;
    if let Some(first) = before.get(&cache.number) {
        fault::mount(first, target, "bind", MsFlags::MS_BIND, "")?;
    } else {
        let make_inner = || site.make_inner();
        let make_inner = if site.has_inner() { Some(&make_inner as _) } else { None };
        layers::mount_cache(cache, target, make_inner)?;
        before.insert(cache.number, target.clone());
    }
    match cache.access {
        Access::ReadOnly => forbid_writes(target, MsFlags::empty()),
        // The mount of the first path may be read-only.
        Access::ReadWrite => remount(target, MsFlags::empty()),
    }
}

/// Mounts a tmpfs with the flags that Docker gives it: programs and devices may lie in it.
fn mount_tmpfs(tmpfs: &Tmpfs, target: &Path) -> Result<()> {
    let size = tmpfs.size.map(|size| format!(",size={size}")).unwrap_or_default();
    let data = format!("{TMPFS_DATA}{size}");
    fault::mount(Path::new("tmpfs"), target, "tmpfs", MsFlags::MS_NOSUID, &data)
}

fn mount_secret(secret: &Secret, site: &Site<'_>) -> Result<()> {
    let [_, index] = site.names;
    let file = Path::new(paths::SECRETS).join(index.to_string());
    tree::write_private(&file, &secret.bytes)?;
    tree::set_attributes(&file, secret.mode, secret.uid, secret.gid)?;
    bind_mount(&file, &site.target)?;
    forbid_writes(&site.target, NOSUID_NODEV_NOEXEC)
}

/// Makes what is mounted at `target` read-only there, and gives the mount these flags.
fn forbid_writes(target: &Path, flags: MsFlags) -> Result<()> {
    remount(target, flags | MsFlags::MS_RDONLY)
}

/// Gives the mount at `target` these flags, and no others.
fn remount(target: &Path, flags: MsFlags) -> Result<()> {
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    fault::mount(Path::new("bind"), target, "bind", flags, "")
}
