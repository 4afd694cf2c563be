//! Shares: directories and single files of the host that virtiofsd exports to the guest.
//!
//! virtiofsd exports directories only. The daemon of a single file therefore runs in a mount
//! namespace of its own (`isolation/single_file.rs`), in which [`FILE_DIR`] contains nothing but
//! the file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proto::settings::Record;
use proto::volume::{Volume, VolumeKind};

/// Whether the guest may write to a share.
pub use proto::access::Access;

/// virtiofs tag of the root file system; `/init` mounts this tag by default.
pub const ROOT_TAG: &str = "rootfs";

/// Directory that the daemon of a single file exports. Every Linux system has it, and it never
/// contains a program or a library, so a daemon does not need what is there.
pub const FILE_DIR: &str = "/sys";

/// A host directory or file that the guest mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// virtiofs tag.
    pub tag: String,
    /// Canonical path of the directory or file.
    pub source: PathBuf,
    /// Whether the guest may write to the source.
    pub access: Access,
    /// Place in the guest at which the source is mounted.
    pub mount_point: MountPoint,
}

impl Share {
    /// The record of [`proto::settings`] that tells the guest the mount point; `None` if the
    /// kernel command line does.
    #[must_use]
    pub fn record(&self) -> Option<Vec<u8>> {
        let (kind, path) = match &self.mount_point {
            MountPoint::Volume(path) => (VolumeKind::Directory, path),
            MountPoint::File(path) => (VolumeKind::File, path),
            MountPoint::Root | MountPoint::Tag => return None,
        };
        let (tag, access, path) = (self.tag.as_bytes(), self.access, path.as_bytes());
        Some(Record::Volume(Volume { kind, tag, access, path }).to_bytes())
    }

    /// The single file that is shared; `None` if a directory is.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        matches!(self.mount_point, MountPoint::File(_)).then_some(&*self.source)
    }

    /// The directory that the daemon exports.
    #[must_use]
    pub fn exported(&self) -> &Path {
        if self.file().is_some() { Path::new(FILE_DIR) } else { &self.source }
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
    /// At this path of a file, which [`Share::record`] tells the guest. The source is a file, too.
    File(OsString),
}
