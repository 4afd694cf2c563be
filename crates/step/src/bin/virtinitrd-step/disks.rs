//! Disks of the machine. They are mounted once, and stay mounted for later steps.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use nix::mount::MsFlags;
use virtinitrd_step::request::{Lower, Request};

use crate::fault::{self, Describe};
use crate::{paths, tree};

/// The disk for scratch.
const SCRATCH_DEVICE: &str = "/dev/vdb";

/// Mounts the scratch disk and the EROFS disks of a request. The working directory is
/// [`paths::STATE`].
pub(crate) fn mount_all(request: &Request) -> Result<()> {
    mount_once(SCRATCH_DEVICE, paths::SCRATCH, "ext4", MsFlags::MS_NOATIME)?;
    let lowers = request.lowers.iter().filter_map(|lower| match lower {
        Lower::Disk(device) => Some(device),
        Lower::Step(_) => None,
    });
    let caches = request.caches.iter().filter_map(|cache| cache.device.as_ref());
    for device in lowers.chain(&request.disks).chain(caches) {
        mount_once(device, &paths::disk(device), "erofs", MsFlags::MS_RDONLY)?;
    }
    Ok(())
}

fn mount_once(device: &str, dir: &str, kind: &str, flags: MsFlags) -> Result<()> {
    let dir = Path::new(dir);
    tree::make(dir)?;
    match is_mount_point(dir)? {
        true => Ok(()),
        false => fault::mount(Path::new(device), dir, kind, flags, ""),
    }
}

/// Whether something is mounted at `dir`: another device than that of the directory above.
fn is_mount_point(dir: &Path) -> Result<bool> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
    let both = device(dir).and_then(|own| Ok(own != device(&dir.join(".."))?));
    both.describe(|| format!("look at {}", dir.display()))
}
