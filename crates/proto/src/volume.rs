//! Volumes: shares that `/init` mounts at a path of the root, as records of the run file.
//!
//! virtiofs exports directories only. The share of a volume that is a file has that file under
//! the name [`VOLUME_FILE`], and nothing else.

use alloc::vec::Vec;
use core::ffi::CStr;

use crate::access::Access;

/// Name of the file in the share of a [`VolumeKind::File`].
pub const VOLUME_FILE: &CStr = c"file";

/// Part of a share that a volume shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// The whole share, at a directory of the root.
    Directory,
    /// The file [`VOLUME_FILE`] of the share, at a file of the root.
    File,
}

/// Keys of the records of volumes, and their meanings.
const KEYS: [(&str, VolumeKind); 2] =
    [("volume", VolumeKind::Directory), ("file-volume", VolumeKind::File)];

/// A virtiofs tag, and where to mount it in the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume<'a> {
    /// Whether the volume is a directory or a file.
    pub kind: VolumeKind,
    /// Tag, without blanks.
    pub tag: &'a [u8],
    /// Whether the mount may be written to.
    pub access: Access,
    /// Absolute path of the mount in the root.
    pub path: &'a [u8],
}

impl VolumeKind {
    /// The kind of volume that a record with this key describes.
    #[must_use]
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        KEYS.iter().find(|(row, _)| *row == key).map(|(_, kind)| *kind)
    }
}

impl<'a> Volume<'a> {
    /// Reads the value of a record, `ro|rw TAG PATH`.
    pub(crate) fn parse(kind: VolumeKind, text: &'a [u8]) -> Option<Self> {
        let mut parts = text.splitn(3, |&byte| byte == b' ');
        let access = match parts.next()? {
            b"ro" => Access::ReadOnly,
            b"rw" => Access::ReadWrite,
            _ => return None,
        };
        Some(Self { kind, access, tag: parts.next()?, path: parts.next()? })
    }

    /// The key and the value of the volume's record.
    pub(crate) fn key_and_value(&self) -> (&'static str, Vec<u8>) {
        let Self { kind, tag, access, path } = *self;
        let key = KEYS.iter().find(|(_, row)| *row == kind);
        let access: &[u8] = match access {
            Access::ReadOnly => b"ro",
            Access::ReadWrite => b"rw",
        };
        (key.map_or("", |(key, _)| key), [access, b" ", tag, b" ", path].concat())
    }
}
