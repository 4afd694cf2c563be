//! Which root the command line means.
//!
//! `rootfs=` is osbuild/initrd's word, `root=` with its companions the kernel's
//! (kernel doc: admin-guide/kernel-parameters.rst).

use alloc::{string::String, vec::Vec};

use virtinitrd_proto::tag::Tag;
use virtinitrd_proto::text::{compose, show};
use virtinitrd_proto::words::text;

use crate::block::Disk;
use crate::device::Device;
use crate::error::Result;

/// What the root is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root<'a> {
    /// `rootfs=TAG`, or `root=TAG rootfstype=virtiofs`.
    Virtiofs(Tag<'a>),
    /// `root=DEVICE`, with or without `rootfstype=` and `rootflags=`.
    Block(Disk<'a>),
    /// `root=initramfs`: what the kernel unpacked is the root to the end.
    Initramfs,
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
            return Ok(Some(Root::Block(Disk { device, word: "root", name, kinds, options })));
        }
        warnings.push(compose(format_args!(
            "root={} ignored: it is no device, and no tag without rootfstype=virtiofs",
            show(name)
        )));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::FOREVER;
    use crate::cmdline::Config;
    use crate::partitions::Wanted;
    use core::time::Duration;
    use virtinitrd_proto::access::Access;

    fn parse(line: &str) -> Config<'_> {
        Config::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn the_root_tag_follows_its_parameters() {
        for (name, line, tag) in [
            ("bare words do not shadow", "rootfs=x rootfs rootfs=", "x"),
            ("last one counts", "rootfs=x rootfs=y", "y"),
            ("rootfs= beats root=", "rootfs=x root=y rootfstype=virtiofs", "x"),
            ("root= with virtiofs", "rootfstype=virtiofs root=y", "y"),
            ("root= without type", "root=vda", "rootfs"),
            ("root= of another kind", "root=host rootfstype=9p", "rootfs"),
            ("rootfs= beats a device", "root=/dev/vda rootfstype=ext4 rootfs=x", "x"),
            ("after --", "rootfs=x -- rootfs=y", "x"),
        ] {
            let tag = Tag::parse(tag.as_bytes()).unwrap();
            assert_eq!(parse(line).root, Root::Virtiofs(tag), "{name}");
        }
    }

    #[test]
    fn devices_are_named_as_the_kernel_names_them() {
        let uuid = *b"\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\0";
        let guid = *b"\x44\x33\x22\x11\x66\x55\x88\x77\x99\xaa\xbb\xcc\xdd\xee\xff\0";
        let number = Wanted::Number { signature: 0xdead_beef, number: 0x0a };
        for (name, device) in [
            ("/dev/vda1", Device::Path(b"/dev/vda1")),
            ("254:0", Device::Number(b"254:0")),
            ("LABEL=a b", Device::Label(b"a b")),
            ("UUID=11223344-5566-7788-99aa-bbccddeeff00", Device::Uuid(uuid)),
            (
                "PARTUUID=11223344-5566-7788-99AA-BBCCDDEEFF00",
                Device::Partition(Wanted::Guid(guid)),
            ),
            ("PARTUUID=deadbeef-0a", Device::Partition(number)),
            ("PARTLABEL=x", Device::Partition(Wanted::Label(b"x"))),
        ] {
            for (more, kinds, options) in
                [("", "", ""), (" rootfstype=ext4,xfs rootflags=noatime", "ext4,xfs", "noatime")]
            {
                let line = alloc::format!("\"root={name}\"{more}");
                let [name, kinds, options] = [name, kinds, options].map(str::as_bytes);
                let expected = Disk { device, word: "root", name, kinds, options };
                let config = parse(&line);
                assert_eq!(config.root, Root::Block(expected), "{line}");
                assert!(config.warnings.is_empty());
            }
        }
        for line in ["root=UUID=x", "root=PARTUUID=deadbeef", "root=PARTUUID="] {
            assert!(Config::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_root_is_read_only_until_rw() {
        for (line, access) in [
            ("", Access::ReadOnly),
            ("rw", Access::ReadWrite),
            ("rw ro", Access::ReadOnly),
            ("root=/dev/vda rw", Access::ReadWrite),
            ("root=initramfs", Access::ReadWrite),
            ("root=initramfs ro", Access::ReadOnly),
        ] {
            assert_eq!(parse(line).root_access, access, "{line}");
        }
    }

    #[test]
    fn a_root_is_waited_for_as_long_as_was_said() {
        let seconds = Duration::from_secs;
        for (line, wait, delay) in [
            ("", seconds(5), seconds(0)),
            ("virtinit.wait=7", seconds(7), seconds(0)),
            ("rootwait virtinit.wait=7 rootdelay=2", FOREVER, seconds(2)),
            ("rootwait=3 rootdelay=x rootwait=y", seconds(3), seconds(0)),
            ("rootwait=", seconds(5), seconds(0)),
            ("rootwait=4 rootwait= rootdelay=", seconds(4), seconds(0)),
            ("rootwait rootwait=\"\"", FOREVER, seconds(0)),
        ] {
            let config = parse(line);
            assert_eq!((config.root_wait, config.root_delay), (wait, delay), "{line}");
        }
        assert_eq!(parse("rootwait=").warnings, ["rootwait= ignored: it is a number of seconds"]);
    }
}
