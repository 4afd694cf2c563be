//! Which root the command line means.
//!
//! `rootfs=` is osbuild/initrd's word, `root=` with its companions the kernel's
//! (kernel doc: admin-guide/kernel-parameters.rst). How it is read is tested
//! with all else in [`crate::cmdline`].

use alloc::{string::String, vec::Vec};

use crate::error::{Result, compose, show};
use crate::tag::Tag;

/// What the root is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root<'a> {
    /// `rootfs=TAG`, or `root=TAG rootfstype=virtiofs`.
    Virtiofs(Tag<'a>),
    /// `root=/dev/… rootfstype=…`.
    Block {
        /// The device's node.
        device: &'a [u8],
        /// File system type, as in `/proc/filesystems`.
        kind: &'a [u8],
        /// `rootflags=`: mount options of the file system's own.
        options: &'a [u8],
    },
}

/// What was said of the root.
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
    /// The root that was meant, if any: `rootfs=` goes before `root=`.
    pub fn choose(self, warnings: &mut Vec<String>) -> Result<Option<Root<'a>>> {
        let ignored = match (self.tag, self.root, self.kind) {
            (Some(tag), ..) | (None, Some(tag), Some(b"virtiofs")) => {
                return Tag::parse(tag).map(|tag| Some(Root::Virtiofs(tag)));
            }
            (None, Some(device), Some(kind)) if device.starts_with(b"/dev/") => {
                return Ok(Some(Root::Block { device, kind, options: self.options }));
            }
            (None, None, _) => return Ok(None),
            (None, Some(device), None) => (device, "rootfstype= is missing"),
            (None, Some(root), Some(_)) => (root, "only a tag or a device in /dev can be mounted"),
        };
        let (root, reason) = ignored;
        warnings.push(compose(format_args!("root={} ignored: {reason}", show(root))));
        Ok(None)
    }
}
