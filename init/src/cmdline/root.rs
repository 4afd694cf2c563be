//! The root's parameters: the kinds of root, and the choice between them.
//!
//! `rootfs=` comes from osbuild/initrd; `root=`, `rootfstype=` and `rootflags=` are the
//! kernel's (kernel doc: admin-guide/kernel-parameters.rst).

use alloc::{string::String, vec::Vec};

use proto::access::Access;
use proto::error::Result;
use proto::tag::Tag;
use proto::text::{compose, show};
use proto::words::text;

use crate::cmdline::device::{Device, Disk};

/// A kind of root, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root<'a> {
    /// `rootfs=TAG`, or `root=TAG rootfstype=virtiofs`.
    Virtiofs(Tag<'a>),
    /// `root=DEVICE`, with or without `rootfstype=` and `rootflags=`.
    Block(Disk<'a>),
    /// `root=initramfs`: the files that the kernel unpacked stay the root.
    Initramfs,
}

impl Root<'_> {
    /// Access to the root without `ro` or `rw`. The initramfs belongs to the guest alone.
    #[must_use]
    pub fn default_access(&self) -> Access {
        match self {
            Self::Initramfs => Access::ReadWrite,
            Self::Virtiofs(_) | Self::Block(_) => Access::ReadOnly,
        }
    }
}

/// The values of the root's parameters.
#[derive(Debug, Default)]
pub struct RootWords<'a> {
    /// `rootfs=`
    pub tag: Option<&'a [u8]>,
    /// `root=`
    pub root: Option<&'a [u8]>,
    /// `rootfstype=`
    pub kind: Option<&'a [u8]>,
    /// `rootflags=`
    pub options: &'a [u8],
}

impl<'a> RootWords<'a> {
    /// The root that the parameters name, if any. `rootfs=` wins over `root=`.
    pub fn choose(self, warnings: &mut Vec<String>) -> Result<Option<Root<'a>>> {
        let Self { tag, root, kind, options } = self;
        let kinds = kind.unwrap_or_default();
        let name = match (tag, root, text(kinds)) {
            (Some(tag), ..) | (None, Some(tag), "virtiofs") => {
                return Ok(Some(Root::Virtiofs(Tag::parse(tag)?)));
            }
            (None, None, _) => return Ok(None),
            (None, Some(b"initramfs"), _) => return Ok(Some(Root::Initramfs)),
            (None, Some(name), _) => name,
        };
        if let Some(device) = Device::parse(name)? {
            return Ok(Some(Root::Block(Disk { device, parameter: "root", name, kinds, options })));
        }
        warnings.push(compose(format_args!(
            "root={} ignored: it is no device, and no tag without rootfstype=virtiofs",
            show(name)
        )));
        Ok(None)
    }
}
