//! Names of block devices on the kernel command line.
//!
//! Source: kernel doc admin-guide/kernel-parameters.rst (`root=`), and mount(8) for
//! `LABEL=` and `UUID=`, which the kernel leaves to an initramfs. The tests of
//! `super::root` and `super::extra_mount` cover the parsers with whole parameters.

use proto::error::{Error, Result};
use proto::text::show;
use proto::words::{hex, number, text, uuid};

/// A file system on a block device, as a parameter describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk<'a> {
    /// The device.
    pub device: Device<'a>,
    /// Name of the parameter, for messages: `root` or `virtinit.mount`.
    pub parameter: &'static str,
    /// The device's name as the parameter's value gives it, for messages.
    pub name: &'a [u8],
    /// File system types to try in order, separated by commas. If it is empty, the
    /// superblock decides.
    pub kinds: &'a [u8],
    /// Mount options, separated by commas.
    pub options: &'a [u8],
}

/// The name of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device<'a> {
    /// `/dev/NAME`
    Path(&'a [u8]),
    /// `MAJOR:MINOR`, in decimal.
    Number(&'a [u8]),
    /// `LABEL=`: label of the file system.
    Label(&'a [u8]),
    /// `UUID=`: UUID of the file system.
    Uuid([u8; 16]),
    /// `PARTUUID=` or `PARTLABEL=`.
    Partition(PartitionId<'a>),
}

/// The name of a partition in its partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionId<'a> {
    /// `PARTUUID=` of a GPT, in the byte order of its entries.
    Guid([u8; 16]),
    /// `PARTUUID=SIGNATURE-NUMBER` of an MBR.
    Number {
        /// Signature of the disk.
        signature: u32,
        /// Number of the partition, from 1 on.
        number: usize,
    },
    /// `PARTLABEL=` of a GPT.
    Label(&'a [u8]),
}

impl<'a> Device<'a> {
    /// Reads a name. `None`: the name has none of the forms of [`Device`].
    ///
    /// # Errors
    /// The value of `UUID=` or `PARTUUID=` is malformed.
    pub fn parse(name: &'a [u8]) -> Result<Option<Self>> {
        let at = name.iter().position(|&byte| byte == b'=').unwrap_or(name.len());
        let (key, value) = name.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        let device = match text(key) {
            "LABEL" => Some(Self::Label(value)),
            "PARTLABEL" => Some(Self::Partition(PartitionId::Label(value))),
            "UUID" => uuid(value).map(Self::Uuid),
            "PARTUUID" => PartitionId::parse_uuid(value).map(Self::Partition),
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

    /// Noun for "no such …" messages.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Number(_) => "device",
            Self::Label(_) => "label",
            Self::Uuid(_) => "UUID",
            Self::Partition(PartitionId::Label(_)) => "partition label",
            Self::Partition(_) => "partition UUID",
        }
    }
}

impl PartitionId<'_> {
    /// Reads the value of `PARTUUID=`.
    #[must_use]
    pub fn parse_uuid(text: &[u8]) -> Option<Self> {
        if let Some(mut guid) = uuid(text) {
            // The first three groups are little-endian numbers.
            for group in [0..4, 4..6, 6..8] {
                guid.get_mut(group).unwrap_or_default().reverse();
            }
            return Some(Self::Guid(guid));
        }
        let (signature, number) = (text.get(..8)?, text.get(8..)?.strip_prefix(b"-")?);
        let number = usize::try_from(hex(number)?).ok().filter(|_| number.len() == 2)?;
        Some(Self::Number { signature: u32::try_from(hex(signature)?).ok()?, number })
    }
}

/// Whether `name` is two decimal numbers with a colon between them.
fn is_number(name: &[u8]) -> bool {
    let mut parts = name.split(|&byte| byte == b':').map(number);
    matches!([(); 3].map(|()| parts.next()), [Some(Some(_)), Some(Some(_)), None])
}
