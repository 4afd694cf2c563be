//! The files that hold disks: finding and opening them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::stat;

use crate::host::canonical_or_open;
use crate::plan::disks::{Disk, DiskBacking};
use crate::plan::shares::Access;

/// The disk at `path`, which is canonical or that of an open file. A missing file is no error here; [`open`] reports it.
#[must_use]
pub fn disk(path: PathBuf, access: Access) -> Disk {
    let is_device = path.metadata().is_ok_and(|found| found.file_type().is_block_device());
    let backing = if is_device { DiskBacking::BlockDevice } else { DiskBacking::File };
    Disk { path, access, backing }
}

/// Parses the value of `--data FILE[:ro]`.
///
/// # Errors
/// The file is neither an image nor a block device, or this user may not open it.
pub fn parse(text: &OsStr) -> Result<Disk> {
    let bytes = text.as_bytes();
    let (path, access) = match bytes.strip_suffix(b":ro") {
        Some(path) => (path, Access::ReadOnly),
        None => (bytes, Access::ReadWrite),
    };
    let path = canonical_or_open(Path::new(OsStr::from_bytes(path)));
    let path = path.with_context(|| format!("--data {}", text.display()))?;
    let disk = disk(path, access);
    open(&disk).map(|_| disk)
}

/// Opens a disk with the access that the guest gets. If the disk is read-only, QEMU has
/// no descriptor for writing.
pub fn open(disk: &Disk) -> Result<File> {
    let path = disk.path.display();
    let found = disk.path.metadata().with_context(|| format!("find disk {path}"))?;
    let kind = found.file_type();
    ensure!(
        kind.is_file() || kind.is_block_device(),
        "disk {path}: neither an image nor a block device"
    );
    let mut options = File::options();
    let opened = options.read(true).write(disk.access == Access::ReadWrite).open(&disk.path);
    match disk.access {
        Access::ReadOnly => opened.with_context(|| format!("open disk {path}")),
        Access::ReadWrite => {
            let file = opened.with_context(|| for_writing(&disk.path))?;
            // The kernel opens a read-only device for writing, and fails at the first write.
            let is_read_only = kind.is_block_device() && is_read_only(found.rdev());
            ensure!(!is_read_only, "{}: the device is read-only", for_writing(&disk.path));
            Ok(file)
        }
    }
}

/// Operation of opening the disk at `path` for the guest's writes, with what does without them.
fn for_writing(path: &Path) -> String {
    let path = path.display();
    format!("open disk {path} for writing (--data {path}:ro and ROOTFS without --rw only read)")
}

/// Whether the kernel lists the block device of this number as read-only (Linux doc:
/// ABI/stable/sysfs-block, `ro`).
fn is_read_only(device: u64) -> bool {
    let (major, minor) = (stat::major(device), stat::minor(device));
    std::fs::read(format!("/sys/dev/block/{major}:{minor}/ro")).is_ok_and(|text| text == b"1\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_suffix_ro_makes_a_disk_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("d");
        std::fs::write(&path, "").unwrap();
        let text = |suffix: &str| OsString::from(format!("{}{suffix}", path.display()));
        for (suffix, access) in [("", Access::ReadWrite), (":ro", Access::ReadOnly)] {
            assert_eq!(parse(&text(suffix)).unwrap(), disk(path.clone(), access));
        }
        // A file without a name has a path as long as it is open.
        let nameless = tempfile::tempfile().unwrap();
        let descriptor = format!("/proc/self/fd/{}", nameless.as_raw_fd());
        let found = parse(OsStr::new(&descriptor)).unwrap();
        assert_eq!(found, disk(descriptor.into(), Access::ReadWrite));
        // The kernel lets nobody write to a program that runs.
        let running = std::env::current_exe().unwrap();
        let read_only = [running.as_os_str(), OsStr::new(":ro")].into_iter().collect::<OsString>();
        assert!(parse(&read_only).is_ok());
        for (bad, why) in [
            (dir.path().as_os_str(), "neither an image"),
            (running.as_os_str(), ":ro and ROOTFS without --rw only read): Text file busy"),
            (OsStr::new("/nonexistent:ro"), "--data /nonexistent:ro"),
            (OsStr::new("/dev/null"), "neither an image"),
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
