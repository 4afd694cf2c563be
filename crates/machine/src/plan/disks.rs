//! Disks of a machine: images and block devices of the host, each a virtio block
//! device.
//!
//! Interface: `-blockdev` and `-device virtio-blk-pci` of qemu(1). A file is
//! always raw: a format that QEMU had to find in it would be the guest's choice,
//! and could name other files of the host.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::host::canonical;
use crate::plan::Access;

/// What the guest's kernel calls the first disk; the others follow in their order.
pub const FIRST: &str = "/dev/vda";

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Canonical path of an image or a block device.
    pub path: PathBuf,
    /// What the guest may do with it.
    pub access: Access,
    backing: Backing,
}

/// Kind of file that holds a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    File,
    BlockDevice,
}

impl Backing {
    /// QEMU's driver for this kind of file; each driver refuses the other kind.
    fn driver(self) -> &'static str {
        match self {
            Backing::File => "file",
            Backing::BlockDevice => "host_device",
        }
    }
}

impl Disk {
    /// The disk at the canonical `path`. [`Disk::open`] reports a missing file.
    #[must_use]
    pub fn new(path: PathBuf, access: Access) -> Self {
        let is_device = path.metadata().is_ok_and(|found| found.file_type().is_block_device());
        let backing = if is_device { Backing::BlockDevice } else { Backing::File };
        Self { path, access, backing }
    }

    /// Reads `--data FILE[:ro]`.
    ///
    /// # Errors
    /// What is no file, or not to be opened so.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let (path, access) = match bytes.strip_suffix(b":ro") {
            Some(path) => (path, Access::ReadOnly),
            None => (bytes, Access::ReadWrite),
        };
        let path = canonical(Path::new(OsStr::from_bytes(path)));
        let path = path.with_context(|| format!("--data {}", text.display()))?;
        let disk = Self::new(path, access);
        disk.open().map(|_| disk)
    }

    /// Opens it as the guest will: what QEMU is not allowed, the guest is not.
    pub fn open(&self) -> Result<File> {
        let path = self.path.display();
        let found = self.path.metadata().with_context(|| format!("find disk {path}"))?;
        let kind = found.file_type();
        ensure!(
            kind.is_file() || kind.is_block_device(),
            "disk {path}: neither an image nor a block device"
        );
        let mut options = File::options();
        options.read(true).write(self.access == Access::ReadWrite);
        options.open(&self.path).with_context(|| match self.access {
            Access::ReadWrite => format!("open disk {path} to be written to"),
            Access::ReadOnly => format!("open disk {path}"),
        })
    }

    /// The values of `-blockdev` and `-device` for disk `number`, whose file QEMU
    /// opens by `file`.
    #[must_use]
    pub fn options(&self, number: usize, file: &OsStr) -> [OsString; 2] {
        let read_only = match self.access {
            Access::ReadOnly => "on",
            Access::ReadWrite => "off",
        };
        let head = format!(
            "driver=raw,node-name=disk{number},read-only={read_only},discard=unmap,\
             file.driver={},file.filename=",
            self.backing.driver()
        );
        let backend = [head.as_bytes(), crate::plan::escape(file).as_bytes()].concat();
        [OsString::from_vec(backend), format!("virtio-blk-pci,drive=disk{number}").into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_a_file_that_may_be_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("d");
        std::fs::write(&path, "").unwrap();
        let text = |suffix: &str| OsString::from(format!("{}{suffix}", path.display()));
        for (suffix, access) in [("", Access::ReadWrite), (":ro", Access::ReadOnly)] {
            let disk = Disk::new(path.clone(), access);
            assert_eq!(Disk::parse(&text(suffix)).unwrap(), disk);
        }
        for (bad, why) in [
            (dir.path().as_os_str(), "neither an image"),
            (OsStr::new("/nonexistent:ro"), "--data /nonexistent:ro"),
            (OsStr::new("/dev/null"), "neither an image"),
        ] {
            let error = format!("{:#}", Disk::parse(bad).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_disk_is_raw_and_its_name_escaped() {
        for (backing, driver) in [(Backing::File, "file"), (Backing::BlockDevice, "host_device")] {
            let disk = Disk { path: "/x".into(), access: Access::ReadOnly, backing };
            let [backend, device] = disk.options(1, OsStr::new("/a,b"));
            let expected = format!(
                "driver=raw,node-name=disk1,read-only=on,discard=unmap,file.driver={driver},\
                 file.filename=/a,,b"
            );
            assert_eq!(backend, expected.as_str());
            assert_eq!(device, "virtio-blk-pci,drive=disk1");
        }
    }
}
