//! Shares: directories of the host that virtiofsd exports to the guest.

use std::path::PathBuf;

/// Whether the guest may write to a share.
pub use proto::access::Access;

/// virtiofs tag of the root file system; `/init` mounts this tag by default.
pub const ROOT_TAG: &str = "rootfs";

/// A host directory that the guest mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// virtiofs tag.
    pub tag: String,
    /// Canonical path of the directory.
    pub source: PathBuf,
    /// Whether the guest may write to the directory.
    pub access: Access,
    /// Place in the guest at which the directory is mounted.
    pub mount_point: MountPoint,
}

/// Place at which the guest mounts a share, and the way by which the guest learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountPoint {
    /// At `/`; `/init` does that by default.
    Root,
    /// At `/run/mnt/TAG`; a parameter on the kernel command line names the tag.
    Tag,
    /// At the path of `--volume`; a record of [`proto::settings`] has the path and the tag.
    Volume,
}
