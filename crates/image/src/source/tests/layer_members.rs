//! Members of layers that are rare or large: what the layer has must come out, byte by byte.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use files::notes::Notes;

use super::layers::apply_archives;
use super::{END, member, node, records};
use crate::source::tar::Budget;
use crate::source::tar::layer::{self, DirectoryLinks, LayerOptions};
use crate::tree::{Kind, Meta, Tree};

/// The tree and the notes of layers that consist of these parts.
fn applied(layers: &[&[&[u8]]]) -> (Tree, Vec<String>) {
    let archives: Vec<_> = layers.iter().map(|parts| parts.concat()).collect();
    apply_archives(&archives, DirectoryLinks::Replace).unwrap()
}

fn file(path: &str) -> Vec<u8> {
    member(b'0', path, b"").bytes()
}

#[test]
fn attributes_are_kept_byte_by_byte() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let large = [&b"SCHILY.xattr.user.large="[..], &vec![7; 1 << 16]].concat();
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff";
    let schily = records(
        b'x',
        &[
            &[&b"SCHILY.xattr.security.capability="[..], capability].concat(),
            &[&b"SCHILY.xattr.system.posix_acl_access="[..], acl].concat(),
            b"SCHILY.xattr.security.selinux=a:b:c\0",
            &large,
        ],
    );
    let old = records(b'x', &[b"LIBARCHIVE.xattr.user.old=AP8"]);
    let (tree, notes) =
        applied(&[&[&schily, &file("a"), END], &[&old, &file("b"), END], &[&file("c"), END]]);
    let xattrs = |path| &node(&tree, path).meta.xattrs;
    assert_eq!(*xattrs("a")[&b"security.capability"[..]], *capability);
    assert_eq!(*xattrs("a")[&b"system.posix_acl_access"[..]], *acl);
    assert_eq!(*xattrs("a")[&b"security.selinux"[..]], *b"a:b:c\0");
    assert_eq!(*xattrs("a")[&b"user.large"[..]], vec![7; 1 << 16]);
    assert_eq!(*xattrs("b")[&b"user.old"[..]], *b"\0\xff");
    assert!(xattrs("c").is_empty() && notes.is_empty(), "{notes:?}");
}

#[test]
fn attributes_of_a_lower_file_do_not_survive_its_replacement() {
    let with = records(b'x', &[b"SCHILY.xattr.user.a=1"]);
    let directory = || member(b'5', "d", b"").bytes();
    let (tree, _) = applied(&[
        &[&with, &file("f"), &with, &directory(), END],
        &[&file("f"), &directory(), END],
    ]);
    assert!(node(&tree, "f").meta.xattrs.is_empty());
    assert!(node(&tree, "d").meta.xattrs.is_empty());
}

#[test]
fn names_are_the_same_bytes() {
    let long = "n".repeat(256);
    let component = &long[..255];
    let deep = vec!["d"; 300].join("/");
    let longest = vec![&long[..100]; 40].join("/");
    let pax = |path: &str| records(b'x', &[format!("path={path}").as_bytes()]);
    let gnu =
        |kind, text: &str| member(kind, "././@LongLink", format!("{text}\0").as_bytes()).bytes();
    let bytes = member(b'0', "raw", b"").with(0, b"\xff\xfe\x1b\n").bytes();
    let global = records(b'g', &[b"comment=from git archive"]);
    let (tree, notes) = applied(&[&[
        &global,
        &pax(component),
        &file("x"),
        &pax(&deep),
        &file("x"),
        &pax(&longest),
        &file("x"),
        &gnu(b'L', &format!("g/{component}")),
        &gnu(b'K', &longest),
        &member(b'2', "x", b"").to("x").bytes(),
        &bytes,
        END,
    ]]);
    for path in [component, &deep, &longest] {
        assert!(matches!(node(&tree, path).kind, Kind::File(_)), "{path}");
    }
    let Kind::Symlink(target) = &node(&tree, &format!("g/{component}")).kind else { panic!() };
    assert_eq!(**target, *longest.as_bytes());
    assert!(tree.find(b"\xff\xfe\x1b\n").is_some());
    assert!(notes.is_empty(), "{notes:?}");
    for path in [format!("a/{long}"), vec![component; 17].join("/")] {
        let archive = [&pax(&path)[..], &file("x"), END].concat();
        assert!(apply_archives(&[archive], DirectoryLinks::Replace).is_err(), "{path}");
    }
}

#[test]
fn every_type_of_file_is_kept_with_its_owner_and_time() {
    let device =
        |kind, name| member(kind, name, b"").with(329, b"0000010\0").with(337, b"0001054\0");
    let owner =
        records(b'x', &[b"uid=4294967294", b"gid=3000000000", b"mtime=1700000000.123456789"]);
    let (tree, notes) = applied(&[&[
        &owner,
        &device(b'3', "char").bytes(),
        &device(b'4', "block").bytes(),
        &member(b'6', "fifo", b"").with(100, b"0004755\0").bytes(),
        END,
    ]]);
    assert!(matches!(node(&tree, "char").kind, Kind::CharDevice(8, 556)));
    assert!(matches!(node(&tree, "block").kind, Kind::BlockDevice(8, 556)));
    assert!(matches!(node(&tree, "fifo").kind, Kind::Fifo));
    let Meta { uid, gid, mtime, nanoseconds, .. } = node(&tree, "char").meta;
    assert_eq!((uid, gid), (0xffff_fffe, 3_000_000_000));
    assert_eq!((mtime, nanoseconds), (1_700_000_000, 123_456_789));
    assert_eq!(node(&tree, "fifo").meta.permissions, 0o4755);
    assert!(notes.is_empty(), "{notes:?}");
}

/// Writes parts to a file: a header, or a number of bytes to leave as a hole.
fn with_holes(parts: &[Result<&[u8], u64>]) -> Arc<File> {
    let (file, mut at) = (tempfile::tempfile().unwrap(), 0);
    for part in parts {
        match part {
            Ok(bytes) => {
                file.write_all_at(bytes, at).unwrap();
                at += bytes.len() as u64;
            }
            Err(hole) => at += hole,
        }
    }
    file.set_len(at).unwrap();
    Arc::new(file)
}

#[test]
fn files_of_more_than_8_gib_have_their_size() {
    const SIZE: u64 = 9 << 30;
    let binary = member(b'0', "binary", b"")
        .with(124, &[&[0x80, 0, 0, 0][..], &SIZE.to_be_bytes()].concat())
        .bytes();
    let pax = [records(b'x', &[format!("size={SIZE}").as_bytes()]), file("pax")].concat();
    // The map of old GNU sparse files: one piece at the end.
    let sparse = member(b'S', "sparse", b"")
        .with(257, b"ustar  \0")
        .with(124, b"00000001000\0")
        .with(386, &[&[0x80, 0, 0, 0][..], &(SIZE - 512).to_be_bytes()].concat())
        .with(398, b"00000001000\0")
        .with(483, &[&[0x80, 0, 0, 0][..], &SIZE.to_be_bytes()].concat())
        .bytes();
    let last = [&file("last")[..], END].concat();
    let archive = with_holes(&[
        Ok(&binary),
        Err(SIZE),
        Ok(&pax),
        Err(SIZE),
        Ok(&sparse),
        Ok(&[b'x'; 512]),
        Ok(&last),
    ]);
    let mut tree = Tree::new(Meta::default());
    let (options, mut budget) = (LayerOptions::default(), Budget::IMAGE);
    layer::apply(&archive, &mut tree, &options, &mut budget, &mut Notes::default()).unwrap();
    for path in ["binary", "pax", "sparse"] {
        let Kind::File(content) = &node(&tree, path).kind else { panic!("{path}") };
        assert_eq!(content.size(), SIZE, "{path}");
    }
    assert!(tree.find(b"last").is_some());
}

#[test]
fn layers_may_be_empty_and_many() {
    let (tree, notes) = applied(&[&[END], &[&file("a"), END], &[END], &[&[0; 10240]]]);
    assert!(tree.find(b"a").is_some() && tree.len() == 2);
    assert!(notes.is_empty(), "{notes:?}");

    let (tree, notes) = applied(&[]);
    assert!(tree.len() == 1 && notes.is_empty());

    let same = [&file("same")[..], &file(".wh.gone"), END].concat();
    let own = |number| [&file(&format!("f{number}"))[..], &same].concat();
    let archives: Vec<_> = (0..127).map(own).collect();
    let (tree, _) = apply_archives(&archives, DirectoryLinks::Replace).unwrap();
    assert_eq!(tree.children(Tree::ROOT).unwrap().len(), 128);
}

#[test]
fn a_layer_ends_at_its_zeros() {
    let (a, b) = (file("a"), file("b"));
    for (name, parts, has_b, noted) in [
        ("another archive", &[&a[..], END, &b, END][..], false, true),
        ("padding", &[&a, END, &[0; 9 * 512]], false, false),
        ("padding, then another archive", &[&a, END, &[0; 9 * 512], &b], false, true),
        ("rubbish", &[&a, END, b"rubbish"], false, true),
        ("one block of zeros, then more", &[&a, &END[..512], &b, END], true, true),
        ("no zeros", &[&a, &b], true, false),
    ] {
        let (tree, notes) = applied(&[parts]);
        assert_eq!(tree.find(b"b").is_some(), has_b, "{name}");
        assert_eq!(!notes.is_empty(), noted, "{name}: {notes:?}");
    }
}

/// A program that lists members and one that unpacks them must see the same ones.
#[test]
fn a_size_without_data_hides_no_member_and_data_is_none() {
    let header = records(b'x', &[b"comment=x"]);
    let sized = |kind, name: &str| member(kind, name, &[b'x'; 512]).to("a").bytes()[..512].to_vec();
    for (name, sized) in [
        ("directory", sized(b'5', "d")),
        ("hard link", sized(b'1', "d")),
        ("symbolic link", sized(b'2', "d")),
        ("fifo", sized(b'6', "d")),
    ] {
        let (tree, notes) = applied(&[&[&file("a"), &header, &sized, &file("c"), &file("e"), END]]);
        let found = ["a", "c", "d", "e"].map(|path| tree.find(path.as_bytes()).is_some());
        assert_eq!((found, &notes[..]), ([true; 4], &[][..]), "{name}");
        assert!(matches!(&node(&tree, "a").kind, Kind::File(content) if content.size() == 0));
        let permissions = node(&tree, "d").meta.permissions;
        assert_eq!(permissions, if name == "symbolic link" { 0o777 } else { 0o644 }, "{name}");
    }
    let evil = member(b'0', "evil", b"").with(100, b"0004755\0").bytes();
    let (tree, _) = applied(&[&[&member(b'0', "foo/", &evil).bytes(), &file("b"), END]]);
    assert!(tree.find(b"evil").is_none() && tree.find(b"b").is_some());
}

#[test]
fn an_error_names_the_member() {
    let negative = member(b'0', "bad\x1b", b"").with(124, b"nonsense\0").bytes();
    let archive = [&file("good")[..], &negative, END].concat();
    let error = apply_archives(&[archive], DirectoryLinks::Replace).map(|_| ()).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with("member at offset 512: bad\\u{1b}: its size"), "{text}");
}

/// Each layer is within the bounds of an archive, and all of them are not within those of an
/// image.
#[test]
fn the_attributes_of_all_layers_are_bounded_together() {
    let global = records(b'g', &[&[b"SCHILY.xattr.user.big=", &vec![7; 900_000][..]].concat()]);
    let members: Vec<u8> = (0..150).flat_map(|index| file(&index.to_string())).collect();
    let layer = [&global[..], &members, END].concat();
    let apply = |count| apply_archives(&vec![layer.clone(); count], DirectoryLinks::Replace);
    assert!(apply(1).is_ok());
    let error = format!("{:#}", apply(2).unwrap_err());
    assert!(error.contains("more than 256 MiB"), "{error}");
}
