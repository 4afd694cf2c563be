//! Tests of what is handed to mkfs.xfs.

use super::*;
use image::tree::{Content, Meta};

const OLD: Version = Version(6, 1);
const NEW: Version = Version(6, 13);

fn meta(permissions: u16) -> Meta {
    Meta { permissions, uid: 7, gid: 8, mtime: 9, ..Meta::default() }
}

fn file(size: usize) -> Kind {
    Kind::File(Content::Bytes(vec![1; size].into()))
}

fn tree(children: Vec<(&[u8], u16, Kind)>) -> Tree {
    let mut tree = Tree::new(meta(0o755));
    for (name, permissions, kind) in children {
        tree.add(Tree::ROOT, name, meta(permissions), kind).unwrap();
    }
    tree
}

#[test]
fn the_protofile_has_every_kind() {
    let mut tree = tree(vec![
        (b"a", 0o6755, file(5)),
        (b"c", 0o640, Kind::CharDevice(1, 3)),
        (b"d", 0o660, Kind::BlockDevice(8, 1)),
        (b"l", 0o777, Kind::Symlink(b"a"[..].into())),
        (b"p", 0o600, Kind::Fifo),
        (b"s", 0o600, Kind::Socket),
        (b"t", 0o1777, image::tree::directory()),
    ]);
    let a = tree.children(Tree::ROOT).unwrap()[&b"a"[..]];
    let t = tree.children(Tree::ROOT).unwrap()[&b"t"[..]];
    tree.link(t, b"a2", a).unwrap();
    tree.node_mut(a).meta.xattrs.insert(b"user.x"[..].into(), b"1"[..].into());
    let mut notes = Notes::default();
    let plan = plan(&tree, OLD, &mut notes).unwrap();
    let expected = "/dev/null\n0 0\n\
        d--755 1 8\n\
        a -ug755 2 8 files/0\n\
        c c--640 3 8 1 3\n\
        d b--660 4 8 8 1\n\
        l l--777 5 8 a\n\
        p p--600 6 8 \n\
        t d--777 7 8\n\
        a2 -ug755 8 8 files/0\n\
        $\n$\n";
    assert_eq!(String::from_utf8(plan.protofile).unwrap(), expected);
    assert_eq!(plan.contents, [("0".to_owned(), a)]);
    let modes: Vec<_> = plan.inodes.iter().map(|inode| inode.mode).collect();
    assert_eq!(modes[1], 0o106_755);
    assert_eq!((modes[6], plan.inodes[6].uid, plan.inodes[6].mtime), (0o41_777, 7, 9));
    let notes: Vec<_> = notes.lines().collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    for (note, path) in notes.iter().zip(["a and 1 more", "s", "t/a2"]) {
        assert!(note.ends_with(&format!(": {path}")), "{note}");
    }
}

#[test]
fn what_a_protofile_cannot_say_is_an_error() {
    let link = |target: &[u8]| Kind::Symlink(target.into());
    for (name, kind, version, expected) in [
        (&b"a b"[..], file(0), OLD, Some("from version 6.2 on")),
        (b"a b", file(0), NEW, None),
        (b"a\tb", file(0), NEW, Some("this name")),
        (b"a\nb", file(0), NEW, Some("this name")),
        (b":a", file(0), NEW, Some("this name")),
        (b"$", file(0), NEW, Some("this name")),
        (b"a:$", file(0), OLD, None),
        (b"l", link(b"a b"), NEW, Some("this target")),
        (b"l", link(b":"), NEW, Some("this target")),
        (b"l", link(&[b'a'; 336]), OLD, None),
        (b"l", link(&[b'a'; 337]), OLD, Some("from version 6.10 on")),
        (b"l", link(&[b'a'; 1023]), NEW, None),
        (b"l", link(&[b'a'; 1024]), NEW, Some("1023 bytes")),
        (b"d", Kind::CharDevice(512, 0), NEW, Some("device 512:0")),
        (b"d", Kind::CharDevice(511, 1 << 18), NEW, Some("device 511:262144")),
    ] {
        let tree = tree(vec![(name, 0o644, kind)]);
        let result = plan(&tree, version, &mut Notes::default());
        let error = result.err().map(|error| format!("{error:#}"));
        match expected {
            None => assert_eq!(error, None, "{name:?}"),
            Some(part) => assert!(error.unwrap().contains(part), "{name:?} {part}"),
        }
    }
}

#[test]
fn names_with_spaces_have_slashes() {
    let tree = tree(vec![(b"a b  c", 0o644, file(0))]);
    let plan = plan(&tree, NEW, &mut Notes::default()).unwrap();
    let text = String::from_utf8(plan.protofile.clone()).unwrap();
    assert!(text.contains("\na/b//c ---644 "), "{text}");
    let options = MkfsOptions {
        label: "root".into(),
        arguments: vec!["-K".into()],
        ..MkfsOptions::default()
    };
    let words = plan.arguments(&options, Geometry { size: 0, groups: 4 }, [1; 16]);
    let expected = [
        "-q",
        "-m",
        "uuid=01010101-0101-0101-0101-010101010101",
        "-d",
        "agcount=4",
        "-p",
        "slashes_are_spaces=1,protofile",
        "-L",
        "root",
        "-K",
        IMAGE,
    ];
    assert_eq!(words, expected);
}

#[test]
fn the_size_has_room_for_the_largest_file_in_one_group() {
    let mib = |count: u64| count << 20;
    let options = |size, slack| MkfsOptions { size, slack, ..MkfsOptions::default() };
    let planned = |used, largest| {
        let plan = plan(&Tree::new(meta(0)), OLD, &mut Notes::default()).unwrap();
        Plan { used, largest, ..plan }
    };
    for (used, largest, options, size, groups) in [
        (0, 0, options(None, None), mib(300), 4),
        (mib(1000), mib(10), options(None, Some(0)), mib(1120), 4),
        (mib(1000), mib(100), options(None, Some(0)), mib(1280), 2),
        (mib(1000), 0, options(None, None), mib(1196), 4),
        (mib(1000), 0, options(Some(5), None), 5, 4),
    ] {
        let geometry = planned(used, largest).geometry(&options);
        assert_eq!(geometry, Geometry { size, groups }, "{used} {largest}");
    }
}

#[test]
fn versions_are_parsed() {
    for (text, expected) in [
        ("mkfs.xfs version 6.1.0\n", Some(Version(6, 1))),
        ("mkfs.xfs version 6.13.0-rc1", Some(Version(6, 13))),
        ("mkfs.xfs version 5.4", Some(Version(5, 4))),
        ("", None),
        ("mkfs.xfs version x", None),
    ] {
        assert_eq!(Version::parse(text.as_bytes()), expected, "{text}");
    }
    assert!(NEW > LONG_TARGETS && OLD < SPACES && NEW.keeps_xattrs());
}
