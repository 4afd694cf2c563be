//! Shares: directories of the host that virtiofsd exports to the guest.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use proto::settings::{Record, Volume};

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

impl Share {
    /// The record of [`proto::settings`] that tells the guest the mount point; `None` if the
    /// kernel command line does.
    #[must_use]
    pub fn record(&self) -> Option<Vec<u8>> {
        let MountPoint::Volume(path) = &self.mount_point else { return None };
        let (tag, access, path) = (self.tag.as_bytes(), self.access, path.as_bytes());
        Some(Record::Volume(Volume { tag, access, path }).to_bytes())
    }
}

/// Place at which the guest mounts a share, and the way by which the guest learns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountPoint {
    /// At `/`; `/init` does that by default.
    Root,
    /// At `/run/mnt/TAG`; a parameter on the kernel command line names the tag.
    Tag,
    /// At this path, which [`Share::record`] tells the guest.
    Volume(OsString),
}
