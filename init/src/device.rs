//! How a block device can be meant, in the kernel's own words.
//!
//! Source: kernel doc admin-guide/kernel-parameters.rst (`root=`), and mount(8)
//! for `LABEL=` and `UUID=`, which the kernel leaves to an initramfs. How a value
//! is read is tested with the words that have it.

use virtinitrd_proto::superblock::Superblock;
use virtinitrd_proto::text::show;
use virtinitrd_proto::words::{number, text, uuid};

use crate::error::{Error, Result};
use crate::partitions::Wanted;

/// A block device as somebody names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device<'a> {
    /// `/dev/NAME`
    Path(&'a [u8]),
    /// `MAJOR:MINOR`, in decimal.
    Number(&'a [u8]),
    /// `LABEL=`, of the file system.
    Label(&'a [u8]),
    /// `UUID=`, of the file system.
    Uuid([u8; 16]),
    /// `PARTUUID=` or `PARTLABEL=`.
    Partition(Wanted<'a>),
}

impl<'a> Device<'a> {
    /// Reads a name; `None` where it is none of a device.
    ///
    /// # Errors
    /// What should be a UUID is none.
    pub fn parse(name: &'a [u8]) -> Result<Option<Self>> {
        let at = name.iter().position(|&byte| byte == b'=').unwrap_or(name.len());
        let (key, value) = name.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        let device = match text(key) {
            "LABEL" => Some(Self::Label(value)),
            "PARTLABEL" => Some(Self::Partition(Wanted::Label(value))),
            "UUID" => uuid(value).map(Self::Uuid),
            "PARTUUID" => Wanted::parse_uuid(value).map(Self::Partition),
            _ if name.starts_with(b"/dev/") => return Ok(Some(Self::Path(name))),
            _ => return Ok(is_number(name).then_some(Self::Number(name))),
        };
        let malformed = || {
            Error::new(
                format_args!("{}: malformed", show(name)),
                "a UUID has 8-4-4-4-12 hexadecimal digits; a partition of an MBR, 8-2",
            )
        };
        device.map(Some).ok_or_else(malformed)
    }

    /// What is not there where it is not found.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Number(_) => "device",
            Self::Label(_) => "label",
            Self::Uuid(_) => "UUID",
            Self::Partition(Wanted::Label(_)) => "partition label",
            Self::Partition(_) => "partition UUID",
        }
    }

    /// Whether the file system of that superblock is meant.
    #[must_use]
    pub fn is_on(&self, superblock: &Superblock<'_>) -> bool {
        match self {
            Self::Label(label) => !label.is_empty() && superblock.label == *label,
            Self::Uuid(uuid) => superblock.uuid == Some(*uuid),
            Self::Path(_) | Self::Number(_) | Self::Partition(_) => false,
        }
    }
}

/// Whether `name` is two numbers with a colon between them.
fn is_number(name: &[u8]) -> bool {
    let mut parts = name.split(|&byte| byte == b':').map(number);
    matches!([(); 3].map(|()| parts.next()), [Some(Some(_)), Some(Some(_)), None])
}
