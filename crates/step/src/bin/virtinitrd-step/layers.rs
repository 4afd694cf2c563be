//! The layers of a step, as overlayfs (kernel doc filesystems/overlayfs.rst).
//!
//! A mount point that the image lacks must not appear in the changes of the step, and neither
//! may new times of the directory that holds it. So a first overlay makes the mount points in
//! a layer of their own, `points`. Overlayfs copies the directories above them with all their
//! attributes. That layer is the highest lower layer of the second overlay, in which the step
//! runs: whatever the step changes goes to `upper`. A cache in which something else is mounted is
//! made likewise.
//!
//! Paths are relative to [`paths::STATE`]; see there.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use virtinitrd_step::request::{Cache, Lower, Request};

use crate::fault::{self, Describe};
use crate::{paths, tree};

/// Options of overlayfs: as many as the kernel takes, the first row first.
///
/// Without `redirect_dir`, `metacopy` and the others, the upper directory has whole files and
/// directories under their own names, which a reader of one layer needs. `volatile` makes
/// fsync(2) of the step's program cheap; we call syncfs(2) after the step.
const OPTIONS: &[&str] = &[
    ",redirect_dir=off,metacopy=off,index=off,xino=off,volatile",
    ",redirect_dir=off,metacopy=off,index=off,xino=off",
    "",
];

/// Most bytes of mount options: a page with its NUL (mount(2)).
const DATA_MAX: usize = 4095;

/// Directories of one overlay.
struct Overlay<'a> {
    /// Lower directories, the highest first.
    lowers: &'a [String],
    upper: &'a str,
    work: &'a str,
}

impl Overlay<'_> {
    fn mount(&self, target: &Path) -> Result<()> {
        let Self { lowers, upper, work } = self;
        tree::make_empty(Path::new(work))?;
        let data = format!("lowerdir={},upperdir={upper},workdir={work}", lowers.join(":"));
        for (index, options) in OPTIONS.iter().enumerate() {
            let data = data.clone() + options;
            ensure!(
                data.len() <= DATA_MAX,
                "mount overlay: {} layers are too many: put several into one",
                lowers.len()
            );
            let is_last = index + 1 == OPTIONS.len();
            let source = Path::new("overlay");
            match mount(Some(source), target, Some("overlay"), MsFlags::empty(), Some(&*data)) {
                Ok(()) => break,
                // The kernel does not know an option.
                Err(Errno::EINVAL) if !is_last => {}
                Err(errno) => return Err(fault::mount_error("overlay", source, target, errno)),
            }
        }
        let found = statvfs(target).describe(|| format!("look at {}", target.display()))?;
        ensure!(
            !found.flags().contains(FsFlags::ST_RDONLY),
            "mount overlay at {}: the kernel mounts it read-only, because it cannot write to \
             {work}: the scratch disk is full",
            target.display()
        );
        Ok(())
    }
}

/// An overlay with mount points that stay in a layer of their own.
struct WithPoints<'a> {
    /// Lower directories, the highest first, without that of the mount points.
    lowers: &'a [String],
    upper: &'a str,
    work: &'a str,
    points: &'a str,
}

impl WithPoints<'_> {
    /// Mounts it at `target`, where `make_points` makes the mount points.
    fn mount(&self, target: &Path, make_points: impl FnOnce() -> Result<()>) -> Result<()> {
        let Self { lowers, upper, work, points } = *self;
        tree::make_empty(Path::new(points))?;
        // What an earlier run has changed may hide a mount point, or have it already.
        let below_points = [&[upper.to_owned()], lowers].concat();
        Overlay { lowers: &below_points, upper: points, work }.mount(target)?;
        let made = make_points();
        umount2(target, MntFlags::empty()).describe(|| format!("unmount {}", target.display()))?;
        made?;
        let below = [&[points.to_owned()], lowers].concat();
        Overlay { lowers: &below, upper, work }.mount(target)
    }
}

/// Lower layers of a step, the highest first.
fn lowers(request: &Request) -> Vec<String> {
    let path = |lower: &Lower| match lower {
        Lower::Disk(device) => paths::disk(device),
        Lower::Step(number) => paths::step(*number, "upper"),
    };
    request.lowers.iter().rev().map(path).collect()
}

/// Mounts the image of a step at [`paths::ROOT`]. `make_points` makes the mount points that the
/// step needs in the image at the path that it is given.
pub(crate) fn mount_image(
    request: &Request,
    make_points: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let root = Path::new(paths::ROOT);
    let name = |name| paths::step(request.number, name);
    let (upper, work, points) = (name("upper"), name("work"), name("points"));
    tree::make(root)?;
    let image = lowers(request);
    if !Path::new(&upper).exists() {
        tree::make(Path::new(&upper))?;
        // The root directory of the image has the attributes of the upper directory.
        if let Some(highest) = image.first() {
            tree::copy_attributes(Path::new(highest), Path::new(&upper))?;
        }
    }
    WithPoints { lowers: &image, upper: &upper, work: &work, points: &points }
        .mount(root, || make_points(root))
}

/// Mounts a cache at `target`. `make_points` makes the mount points that the step needs in it; it
/// is `None` if nothing is mounted in the cache.
pub(crate) fn mount_cache(
    cache: &Cache,
    target: &Path,
    make_points: Option<&dyn Fn() -> Result<()>>,
) -> Result<()> {
    let name = |name| paths::cache(cache.number, name);
    let (upper, work, points) = (name("upper"), name("work"), name("points"));
    let device = cache.device.as_deref().map(paths::disk);
    let dir = Path::new(&upper);
    if !dir.exists() {
        tree::make(dir)?;
        match &device {
            Some(lower) => tree::copy_attributes(Path::new(lower), dir)?,
            None => tree::set_attributes(dir, cache.mode, cache.uid, cache.gid)?,
        }
    }
    let lowers = device.as_slice();
    match make_points {
        Some(make_points) => WithPoints { lowers, upper: &upper, work: &work, points: &points }
            .mount(target, make_points),
        None if lowers.is_empty() => {
            fault::mount(Path::new(&upper), target, "bind", MsFlags::MS_BIND, "")
        }
        None => Overlay { lowers, upper: &upper, work: &work }.mount(target),
    }
}

/// Mounts the directory `source` at `target`, writable. The changes are dropped after the step.
/// The names are the number of the step and that of the mount.
pub(crate) fn mount_scratch(names: [u32; 2], source: &Path, target: &Path) -> Result<()> {
    let [number, index] = names;
    let name = |name| paths::dropped(number, index, name);
    let (upper, work, lower) = (name("upper"), name("work"), paths::source(index));
    tree::make_empty(Path::new(&upper))?;
    tree::make(Path::new(&lower))?;
    tree::copy_attributes(source, Path::new(&upper))?;
    fault::mount(source, Path::new(&lower), "bind", MsFlags::MS_BIND, "")?;
    Overlay { lowers: &[lower], upper: &upper, work: &work }.mount(target)
}

/// Copies the file `source`, and gives the path of the copy. It is dropped after the step. The
/// names are the number of the step and that of the mount.
pub(crate) fn copy_file(names: [u32; 2], source: &Path) -> Result<PathBuf> {
    let [number, index] = names;
    let copy = PathBuf::from(paths::dropped(number, index, "copy"));
    if let Some(dir) = copy.parent() {
        tree::make_empty(dir)?;
    }
    tree::copy_file(source, &copy)?;
    Ok(copy)
}

/// Unmounts the image with all that is mounted in it, and removes what only the running step
/// needs.
pub(crate) fn unmount(request: &Request) -> Result<()> {
    let root = Path::new(paths::ROOT);
    let unmounted = umount2(root, MntFlags::MNT_DETACH);
    for name in ["work", "points"] {
        tree::remove(Path::new(&paths::step(request.number, name)))?;
        for cache in &request.caches {
            tree::remove(Path::new(&paths::cache(cache.number, name)))?;
        }
    }
    tree::remove(Path::new(&paths::dropped_dir(request.number)))?;
    unmounted.describe(|| format!("unmount {}", root.display()))
}
