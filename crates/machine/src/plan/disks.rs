//! Disks of a machine: images and block devices of the host, each of which becomes a
//! virtio block device.

use std::path::PathBuf;

use super::shares::Access;

/// Name of the first disk in the guest (virtio_blk); further disks follow in the order
/// of the plan.
pub const FIRST: &str = "/dev/vda";

/// An image or a block device that the guest sees as a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Canonical path of the image or block device.
    pub path: PathBuf,
    /// Whether the guest may write to the disk.
    pub access: Access,
    /// Kind of the file at `path`.
    pub backing: DiskBacking,
}

/// Kind of file that holds a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskBacking {
    /// A regular file.
    File,
    /// A block device of the host.
    BlockDevice,
}

impl DiskBacking {
    /// QEMU's block driver for this kind of file; each driver refuses the other kind.
    #[must_use]
    pub fn driver(self) -> &'static str {
        match self {
            DiskBacking::File => "file",
            DiskBacking::BlockDevice => "host_device",
        }
    }
}
