//! Tests of whole command lines, from bytes to [`Config`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;
use proto::access::Access;
use proto::tag::Tag;

use super::config::{Config, FOREVER, Share};
use super::device::{Device, Disk, PartitionId};
use super::module_parameters::of_module;
use super::root::Root;

fn parse(line: &str) -> Config<'_> {
    Config::parse(line.as_bytes()).unwrap()
}

fn virtiofs(tag: &str) -> Root<'_> {
    Root::Virtiofs(Tag::parse(tag.as_bytes()).unwrap())
}

#[test]
fn waiting_is_bounded_by_seconds() {
    for (line, seconds, warnings) in [
        ("", 5, 0),
        ("virtinit.wait=0", 0, 0),
        ("virtinit.wait=90 virtinit.wait=soon", 90, 1),
        ("virtinit.wait", 5, 1),
    ] {
        let config = parse(line);
        assert_eq!(config.wait, Duration::from_secs(seconds), "{line}");
        assert_eq!(config.warnings.len(), warnings, "{line}");
    }
}

#[test]
fn an_empty_line_gives_the_documented_defaults() {
    let config = parse("\n");
    assert_eq!(config.root, virtiofs("rootfs"));
    assert_eq!(config.init, b"/bin/sh");
    assert!(config.shares.is_empty() && config.args.is_empty() && config.warnings.is_empty());
    assert!(!config.debug);
}

#[test]
fn osbuilds_own_line_is_understood() {
    let config = parse(
        "console=ttyS0 quiet selinux=1 enforcing=0 rootfstype=virtiofs root=rootfs ro \
         mount=mnt0 init=/run/mnt/mnt0/osbuild/vm.py",
    );
    assert_eq!(config.root, virtiofs("rootfs"));
    assert_eq!(
        config.shares,
        [Share { tag: Tag::parse(b"mnt0").unwrap(), access: Access::ReadWrite }]
    );
    assert_eq!(config.init, b"/run/mnt/mnt0/osbuild/vm.py");
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn shares_keep_order_and_lose_duplicates() {
    let config = parse("mount=a mount-ro=b mount= mount mount-ro=a");
    let shares: Vec<_> =
        config.shares.iter().map(|share| (share.tag.as_bytes(), share.access)).collect();
    assert_eq!(shares, [(&b"a"[..], Access::ReadOnly), (b"b", Access::ReadOnly)]);
    assert_eq!(config.warnings, ["virtiofs tag \"a\" given twice; the last one wins"]);
}

#[test]
fn thirty_two_mounts_are_not_too_many() {
    use core::fmt::Write;
    let mut line = String::new();
    for number in 0..32 {
        write!(line, "mount=tag{number} ").unwrap();
    }
    assert_eq!(parse(&line).shares.len(), 32);
}

#[test]
fn words_after_the_dashes_are_arguments() {
    let config = parse("init=/bin/sh -- -c \"echo a; echo b\" X=\"y z\" -- debug");
    assert_eq!(config.args, [&b"-c"[..], b"echo a; echo b", b"X=y z", b"--", b"debug"]);
    assert!(!config.debug);
}

#[test]
fn words_without_values_take_none() {
    for (line, access, debug, warnings) in [
        ("rw virtinit.debug", Access::ReadWrite, true, 0),
        ("rw=", Access::ReadOnly, false, 0),
        ("rw=1 rw=\"\"", Access::ReadOnly, false, 0),
        ("rw ro= ro=0", Access::ReadWrite, false, 0),
        ("debug=", Access::ReadOnly, true, 0),
        ("virtinit.debug=0", Access::ReadOnly, false, 1),
        ("virtinit.debug=", Access::ReadOnly, false, 1),
    ] {
        let config = parse(line);
        let found = (config.root_access, config.debug, config.warnings.len());
        assert_eq!(found, (access, debug, warnings), "{line}");
    }
    assert_eq!(parse("init=/x --= a").args, Vec::<Vec<u8>>::new());
}

#[test]
fn orders_are_asked_for_by_a_bare_word() {
    for (line, orders, warnings) in
        [("", false, 0), ("virtinit.orders", true, 0), ("virtinit.orders=1", false, 1)]
    {
        let config = parse(line);
        assert_eq!((config.orders, config.warnings.len()), (orders, warnings), "{line}");
    }
}

#[test]
fn unknown_words_are_warnings() {
    let config = parse("virtinit.fail=explode virtinit.what=1 some.module=2 nonsense");
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings.iter().all(|text| text.contains("ignored")));
}

#[test]
fn hostile_tags_are_errors() {
    for line in
        ["mount=..", "mount-ro=a/b", "rootfs=.", "mount=0123456789012345678901234567890123456"]
    {
        assert!(Config::parse(line.as_bytes()).is_err(), "{line}");
    }
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
    let number = PartitionId::Number { signature: 0xdead_beef, number: 0x0a };
    for (name, device) in [
        ("/dev/vda1", Device::Path(b"/dev/vda1")),
        ("254:0", Device::Number(b"254:0")),
        ("LABEL=a b", Device::Label(b"a b")),
        ("UUID=11223344-5566-7788-99aa-bbccddeeff00", Device::Uuid(uuid)),
        (
            "PARTUUID=11223344-5566-7788-99AA-BBCCDDEEFF00",
            Device::Partition(PartitionId::Guid(guid)),
        ),
        ("PARTUUID=deadbeef-0a", Device::Partition(number)),
        ("PARTLABEL=x", Device::Partition(PartitionId::Label(b"x"))),
    ] {
        for (more, kinds, options) in
            [("", "", ""), (" rootfstype=ext4,xfs rootflags=noatime", "ext4,xfs", "noatime")]
        {
            let line = alloc::format!("\"root={name}\"{more}");
            let [name, kinds, options] = [name, kinds, options].map(str::as_bytes);
            let expected = Disk { device, parameter: "root", name, kinds, options };
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
    assert_eq!(
        parse("rootwait=").warnings,
        ["rootwait= ignored: the value must be a number of seconds"]
    );
}

#[test]
fn modules_get_their_parameters() {
    let line = b"loop.max_loop=3 usb-storage.quirks=\"a b\" loop.flag x.y=1 loop=2 l.oop.a=1";
    let config = Config::parse(line).unwrap();
    let parameters =
        |name: &str| String::from_utf8(of_module(&config.module_words, name.as_bytes())).unwrap();
    assert_eq!(parameters("loop"), "max_loop=3 flag");
    assert_eq!(parameters("usb_storage"), "quirks=\"a b\"");
    assert_eq!(parameters("l"), "oop.a=1");
    assert_eq!(parameters("virtio"), "");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Config::parse(&line);
    }

    #[test]
    fn plain_arguments_arrive_unchanged(
        args in prop::collection::vec("[!#-~]{1,20}", 0..20)
    ) {
        let line = format!("quiet -- {}\n", args.join(" "));
        let expected: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        prop_assert_eq!(Config::parse(line.as_bytes()).unwrap().args, expected);
    }

    #[test]
    fn quoted_arguments_keep_their_spaces(arg in "[ !#-<>-~]{1,40}") {
        let line = format!("-- \"{arg}\"");
        prop_assert_eq!(&Config::parse(line.as_bytes()).unwrap().args, &[arg.into_bytes()]);
    }
}
