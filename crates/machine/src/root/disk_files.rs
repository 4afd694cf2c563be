//! The files that hold disks: finding and opening them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::host::canonical;
use crate::plan::disks::{Disk, DiskBacking};
use crate::plan::shares::Access;

/// The disk at the canonical `path`. A missing file is no error here; [`open`] reports it.
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
    let path = canonical(Path::new(OsStr::from_bytes(path)));
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
    options.read(true).write(disk.access == Access::ReadWrite);
    options.open(&disk.path).with_context(|| match disk.access {
        Access::ReadWrite => format!("open disk {path} for writing"),
        Access::ReadOnly => format!("open disk {path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn the_suffix_ro_makes_a_disk_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("d");
        std::fs::write(&path, "").unwrap();
        let text = |suffix: &str| OsString::from(format!("{}{suffix}", path.display()));
        for (suffix, access) in [("", Access::ReadWrite), (":ro", Access::ReadOnly)] {
            assert_eq!(parse(&text(suffix)).unwrap(), disk(path.clone(), access));
        }
        for (bad, why) in [
            (dir.path().as_os_str(), "neither an image"),
            (OsStr::new("/nonexistent:ro"), "--data /nonexistent:ro"),
            (OsStr::new("/dev/null"), "neither an image"),
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
