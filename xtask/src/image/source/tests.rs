//! Tar archives as other writers make them, and what no reader can make sense of.

use std::fs;

use anyhow::Result;

use super::{Options, copy, open, ustar};
use crate::archive::compress::{Compression, compress};
use crate::archive::spool::TooLarge;
use crate::image::notes::Notes;
use crate::image::posix_acl;
use crate::image::tree::{Content, Kind, Meta, Node, Tree, Xattrs};
use crate::image::write;

/// A header to be filled, and its data.
struct Member {
    block: [u8; ustar::BLOCK],
    data: Vec<u8>,
}

/// With the fields that POSIX wants; its size is that of `data`.
fn member(kind: u8, name: &str, data: &[u8]) -> Member {
    let empty = Member { block: [0; ustar::BLOCK], data: data.to_vec() };
    empty
        .with(0, name.as_bytes())
        .with(100, b"0000644\0")
        .with(108, b"0000000\0")
        .with(116, b"0000000\0")
        .with(124, format!("{:011o}\0", data.len()).as_bytes())
        .with(136, b"00000000000\0")
        .with(156, &[kind])
        .with(257, b"ustar\x0000")
}

impl Member {
    /// With `bytes` at an offset of the header.
    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// With the name of a link's target.
    fn to(self, target: &str) -> Self {
        self.with(157, target.as_bytes())
    }

    /// Header and padded data.
    fn bytes(self) -> Vec<u8> {
        self.bytes_with_sum(i64::from)
    }

    fn bytes_with_sum(mut self, number: fn(u8) -> i64) -> Vec<u8> {
        self.block[148..156].fill(b' ');
        let sum: i64 = self.block.iter().map(|&byte| number(byte)).sum();
        self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&self.block[..], &self.data].concat();
        bytes.resize(bytes.len().next_multiple_of(ustar::BLOCK), 0);
        bytes
    }
}

/// An extended header for the next member, or for all with kind `g`.
fn records(kind: u8, records: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for record in records {
        let rest = record.len() + " \n".len();
        let length =
            (rest..rest + 9).find(|length| *length == rest + length.to_string().len()).unwrap();
        data.extend([length.to_string().as_bytes(), b" ", record, b"\n"].concat());
    }
    member(kind, "header", &data).bytes()
}

const END: &[u8] = &[0; 2 * ustar::BLOCK];

fn read(parts: &[&[u8]]) -> Result<(Tree, Vec<String>)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), parts.concat()).unwrap();
    let mut notes = Notes::default();
    let tree = open(file.path(), &Options::default(), &mut notes)?.tree;
    Ok((tree, notes.lines().collect()))
}

fn node<'t>(tree: &'t Tree, path: &str) -> &'t Node {
    tree.node(tree.find(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing")))
}

fn text(tree: &Tree, path: &str) -> Vec<u8> {
    let Kind::File(content) = &node(tree, path).kind else { panic!("{path} is no file") };
    let mut bytes = Vec::new();
    content.open().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn paths(tree: &Tree) -> Vec<String> {
    let mut paths = Vec::new();
    let mut visit = |path: &[u8], _| {
        paths.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    paths.remove(0);
    paths
}

fn refused(name: &str, parts: &[&[u8]], word: &str) {
    let error = read(parts).map(|_| ()).expect_err(name);
    assert!(format!("{error:#}").contains(word), "{name}: {error:#}");
}

#[test]
fn empty_fields_are_zero() {
    for (name, filler) in [("NULs", 0), ("blanks", b' ')] {
        let old = member(b'0', "a", b"x");
        let old = [(100, 8), (108, 8), (116, 8), (136, 12), (329, 8), (337, 8)]
            .iter()
            .fold(old, |old, &(at, len)| old.with(at, &vec![filler; len]));
        let tree = read(&[&old.bytes(), END]).unwrap().0;
        let meta = &node(&tree, "a").meta;
        assert_eq!((meta.permissions, meta.uid, meta.gid, meta.mtime), (0, 0, 0, 0), "{name}");
        assert_eq!(text(&tree, "a"), b"x", "{name}");
        let empty = member(b'0', "a", b"").with(124, &[filler; 12]);
        assert!(text(&read(&[&empty.bytes(), END]).unwrap().0, "a").is_empty(), "{name}");
    }
}

#[test]
fn numbers_may_be_binary() {
    let file = member(b'0', "a", b"x")
        .with(108, b"\x80\0\0\0\xff\xff\xff\xfe")
        .with(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x01")
        .with(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb");
    let meta = node(&read(&[&file.bytes(), END]).unwrap().0, "a").meta.clone();
    assert_eq!((meta.uid, meta.mtime), (0xffff_fffe, -5));
    for (name, at, bytes) in [
        ("a negative size", 124, &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..]),
        ("a size near 2^63", 124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xfe\0"),
        ("a negative owner", 108, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("letters", 100, b"rw-r--r-"),
    ] {
        assert!(read(&[&member(b'0', "a", b"x").with(at, bytes).bytes(), END]).is_err(), "{name}");
    }
}

#[test]
fn an_archive_may_be_empty_but_no_file_is_none() {
    for blocks in [1, 2, 20] {
        let (tree, notes) = read(&[&vec![0; blocks * ustar::BLOCK]]).unwrap();
        assert!(paths(&tree).is_empty() && notes.is_empty(), "{blocks}");
    }
    refused("no bytes", &[b""], "unknown format");
}

#[test]
fn nothing_behind_the_end_is_lost_without_a_note() {
    let (a, b) = (member(b'0', "a", b"1").bytes(), member(b'0', "b", b"2").bytes());
    for (name, parts, expected, notes) in [
        ("padding", &[&a[..], END, &[0; 9000]][..], &["a"][..], 0),
        ("no end", &[&a], &["a"], 0),
        ("one block of zeroes", &[&a, &[0; ustar::BLOCK]], &["a"], 0),
        ("half a block of zeroes", &[&a, &[0; 100]], &["a"], 0),
        ("two archives", &[&a, END, &b, END], &["a", "b"], 1),
        ("a block of zeroes between", &[&a, &[0; ustar::BLOCK], &b], &["a", "b"], 1),
        ("rubbish", &[&a, END, b"rubbish"], &["a"], 1),
    ] {
        let (tree, told) = read(parts).unwrap();
        assert_eq!(
            (paths(&tree), told.len()),
            (expected.iter().map(|p| (*p).into()).collect(), notes),
            "{name}: {told:?}"
        );
    }
    refused("cut", &[&a, &[1; 100]], "truncated");
    refused("rubbish between", &[&a, &[1; ustar::BLOCK], &b, END], "no header");
    refused("only a description", &[&a, &records(b'x', &[b"path=b"]), END], "truncated");
}

#[test]
fn links_may_bring_their_data() {
    let file = member(b'0', "a", b"hello").bytes();
    let header = records(b'x', &[b"linkpath=a"]);
    let link = || member(b'1', "b", b"hello").to("a");
    let last = member(b'0', "c", b"after").bytes();
    for (name, parts) in [
        ("POSIX", &[&file[..], &header, &link().bytes(), &last, END][..]),
        ("without records", &[&file, &link().bytes(), &last, END]),
        ("a size, but no data", &[&file, &link().bytes()[..ustar::BLOCK], &last, END]),
        ("a size with records", &[&file, &header, &link().bytes()[..ustar::BLOCK], &last, END]),
        ("no size", &[&file, &member(b'1', "b", b"").to("a").bytes(), &last, END]),
    ] {
        let (tree, notes) = read(parts).unwrap();
        assert_eq!(
            (text(&tree, "b"), text(&tree, "c")),
            (b"hello".to_vec(), b"after".to_vec()),
            "{name}"
        );
        assert_eq!((tree.find(b"a"), node(&tree, "a").names), (tree.find(b"b"), 2), "{name}");
        assert!(notes.is_empty(), "{name}");
    }
    let last_link = [&file[..], &link().bytes()[..ustar::BLOCK], END].concat();
    assert_eq!(text(&read(&[&last_link]).unwrap().0, "b"), b"hello");
    // It counts as a file where nothing else has its contents.
    let tree = read(&[&header, &link().bytes(), END]).unwrap().0;
    assert_eq!(text(&tree, "b"), b"hello");
    let missing = member(b'1', "b", b"").to("a").bytes();
    refused("nothing there", &[&missing, &file, END], "a link to a, which is missing");
}

#[test]
fn every_type_is_read_or_refused_by_name() {
    let last = member(b'0', "z", b"end").bytes();
    for (kind, name, data, expected) in [
        (b'0', "a", &b"x"[..], "file"),
        (0, "a", b"x", "file"),
        (b'7', "a", b"x", "file"),
        (0, "a/", b"", "directory"),
        (b'0', "a/", b"", "directory"),
        (b'5', "a", b"", "directory"),
        (b'5', "a", b"x", "directory"),
        (b'D', "a", b"Yb\0", "directory"),
        (b'2', "a", b"", "link"),
        (b'2', "a", b"target", "link"),
        (b'3', "a", b"", "device"),
        (b'4', "a", b"", "device"),
        (b'6', "a", b"", "fifo"),
        (b'V', "volume", b"", "nothing"),
        (b'V', "volume", b"x", "nothing"),
        (b'A', "a", b"x", "nothing, noted"),
        (b'!', "a", b"x", "file, noted"),
        (b'I', "a", b"x", "file, noted"),
        (b'8', "a", b"x", "file, noted"),
    ] {
        let shown = format!("'{}' {name}", kind.escape_ascii());
        let (tree, notes) = read(&[&member(kind, name, data).to("t").bytes(), &last, END]).unwrap();
        assert_eq!(text(&tree, "z"), b"end", "{shown}");
        let found = match tree.find(b"a").map(|id| &tree.node(id).kind) {
            None => "nothing",
            Some(Kind::File(_)) => "file",
            Some(Kind::Directory(_)) => "directory",
            Some(Kind::Symlink(_)) => "link",
            Some(Kind::Fifo) => "fifo",
            Some(_) => "device",
        };
        let found = format!("{found}{}", if notes.is_empty() { "" } else { ", noted" });
        assert_eq!(found, expected, "{shown}");
    }
    for (kind, word) in
        [(b'M', "another volume"), (b'N', "not supported"), (b'S', "header of GNU tar")]
    {
        refused("a type", &[&member(kind, "a", b"x").bytes(), &last, END], word);
    }
    let continued = records(b'x', &[b"GNU.volume.filename=a"]);
    refused("continued", &[&continued, &member(b'0', "a", b"x").bytes(), END], "another volume");
}

#[test]
fn names_come_from_where_the_writer_put_them() {
    let long = "d".repeat(90) + "/" + &"n".repeat(60);
    let data = [long.as_bytes(), b"\0"].concat();
    let gnu = member(b'L', "././@LongLink", &data).bytes();
    let file = || member(b'0', "short", b"x");
    for (name, parts, path) in [
        ("POSIX", &[&file().with(345, b"pre/fix").bytes()[..]][..], "pre/fix/short"),
        (
            "star",
            &[&file().with(345, b"pre\0").with(476, b"00000000000 00000000000 ").bytes()],
            "pre/short",
        ),
        ("old GNU", &[&file().with(257, b"ustar  \0").with(345, b"00000000000").bytes()], "short"),
        ("V7", &[&file().with(257, &[0; 8]).with(345, b"rubbish").bytes()], "short"),
        ("GNU", &[&gnu, &file().bytes()], &long),
        ("pax", &[&records(b'x', &[b"path=a/b=c"]), &file().bytes()], "a/b=c"),
        ("pax with newline", &[&records(b'x', &[b"path=a\nb"]), &file().bytes()], "a\nb"),
        ("Solaris", &[&records(b'X', &[b"path=sun"]), &file().bytes()], "sun"),
        ("taken back", &[&records(b'x', &[b"path=other", b"path="]), &file().bytes()], "short"),
        (
            "twice",
            &[&records(b'x', &[b"path=other"]), &records(b'x', &[b"mtime=5"]), &file().bytes()],
            "other",
        ),
        ("absolute", &[&records(b'x', &[b"path=//a/./b"]), &file().bytes()], "a/b"),
    ] {
        let tree = read(&[&parts.concat(), END]).unwrap().0;
        assert_eq!(text(&tree, path), b"x", "{name}");
    }
    for (name, path, word) in [
        ("NUL", &b"path=a\0b"[..], "NUL"),
        ("out", b"path=../x", ".."),
        ("long", &[b"path=", &[b'x'; 256][..]].concat(), "longer than 255"),
        ("size", b"size=-1", "no number"),
        ("time", b"mtime=now", "no number"),
    ] {
        refused(name, &[&records(b'x', &[path]), &file().bytes(), END], word);
    }
    refused(
        "no name",
        &[&member(b'0', "a", b"").bytes(), &member(b'0', "", b"").bytes(), END],
        "no name",
    );
    let link = member(b'2', "a", b"").bytes();
    refused("a link with NUL", &[&records(b'x', &[b"linkpath=a\0b"]), &link, END], "NUL");
    refused("a link to nothing", &[&link, END], "nothing");
}

#[test]
fn a_sum_may_be_signed() {
    let name = "\u{e9}t\u{e9}";
    for number in [|byte: u8| i64::from(byte), |byte: u8| i64::from(byte.cast_signed())] {
        let file = member(b'0', name, b"x").bytes_with_sum(number);
        assert_eq!(text(&read(&[&file, END]).unwrap().0, name), b"x");
    }
}

#[test]
fn attributes_are_kept_or_noted() {
    let file = member(b'0', "f", b"1").bytes();
    let list = "SCHILY.acl.access=user::rw-,user:ann:r--:7,group::r--,mask::r--,other::---";
    let x = records(
        b'x',
        &[
            b"RHT.security.selinux=system_u:object_r:etc_t:s0\0",
            b"SCHILY.xattr.user.a%3Db=1=2",
            b"LIBARCHIVE.xattr.com.apple.provenance=AQA",
            b"SCHILY.xattr.com.apple.provenance=\x01\0",
            b"SCHILY.xattr.trusted.overlay.opaque=y",
            list.as_bytes(),
        ],
    );
    let (tree, notes) = read(&[&x, &file, END]).unwrap();
    let xattrs = &node(&tree, "f").meta.xattrs;
    assert_eq!(*xattrs[&b"security.selinux"[..]], *b"system_u:object_r:etc_t:s0\0");
    assert_eq!(*xattrs[&b"user.a=b"[..]], *b"1=2");
    assert_eq!(*xattrs[&b"trusted.overlay.opaque"[..]], *b"y");
    assert!(posix_acl::is_list(&xattrs[posix_acl::ACCESS]));
    assert_eq!(xattrs.len(), 4);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("com.apple.provenance") && notes[0].ends_with(": f"), "{notes:?}");
    let unclear =
        records(b'x', &[b"SCHILY.acl.access=user::rw-,user:ann:r--,group::r--,other::---"]);
    let (tree, notes) = read(&[&unclear, &file, END]).unwrap();
    assert_eq!((node(&tree, "f").meta.xattrs.len(), notes.len()), (0, 1));
}

#[test]
fn attributes_that_we_write_are_read_again() {
    let pairs: [(&[u8], &[u8]); 4] =
        [(b"user.a=b", b"1=2"), (b"user.5%", b"\n"), (b"user.%3D", b"x"), (b"user.empty", b"")];
    let xattrs: Xattrs = pairs.map(|(name, value)| (name.into(), value.into())).into();
    let mut tree = Tree::new(Meta::default());
    let meta = Meta { xattrs: xattrs.clone(), ..Meta::default() };
    tree.put(b"f", meta, Kind::Fifo).unwrap();
    let mut bytes = Vec::new();
    write::tar::write(&tree, &mut bytes, &mut Notes::default()).unwrap();
    let (again, notes) = read(&[&bytes]).unwrap();
    assert_eq!((&node(&again, "f").meta.xattrs, notes.len()), (&xattrs, 0));
}

/// Memory for one set, however many members have it, and an end to their number.
#[test]
fn members_share_what_a_global_header_says() {
    let value = vec![7; 900_000];
    let global = records(b'g', &[&[b"SCHILY.xattr.user.big=", &value[..]].concat(), b"uid=7"]);
    let small =
        records(b'g', &[&[b"SCHILY.xattr.user.small=", &value[..60_000]].concat(), b"uid=7"]);
    let members = |count: u32| -> Vec<u8> {
        (0..count).flat_map(|index| member(b'0', &format!("{index:05}"), b"").bytes()).collect()
    };
    let (tree, notes) = read(&[&small, &members(400), END]).unwrap();
    let set = |path| -> &Xattrs { &node(&tree, path).meta.xattrs };
    assert_eq!(set("00000").address(), set("00399").address());
    assert_eq!((set("00000").len(), node(&tree, "00399").meta.uid, notes.len()), (1, 7, 0));
    // Linux has no value of that size, which is no reason to fail.
    let (tree, notes) = read(&[&global, &members(400), END]).unwrap();
    assert!(node(&tree, "00399").meta.xattrs.is_empty());
    assert!(notes[0].contains("64 KiB") && notes[0].contains("399 more"), "{notes:?}");
    refused("too many", &[&global, &members(1300), END], "1024 MiB");
}

#[test]
fn sparse_members_have_bounds() {
    let file = member(b'0', "a", b"").bytes();
    for (name, given, word) in [
        ("large", &[&b"GNU.sparse.size=9223372036854775807"[..]][..], "16 TiB"),
        ("no size", &[b"GNU.sparse.map=0,0"], "without its size"),
        ("half a piece", &[b"GNU.sparse.size=5", b"GNU.sparse.map=0"], "half a piece"),
    ] {
        refused(name, &[&records(b'x', given), &file, END], word);
    }
    let old = member(b'S', "a", b"data")
        .with(257, b"ustar  \0")
        .with(386, b"00000001000\0")
        .with(398, b"00000000004\0");
    let old = old.with(483, b"00000001004\0").bytes();
    let tree = read(&[&old, END]).unwrap().0;
    let Kind::File(content @ Content::Stored(_)) = &node(&tree, "a").kind else {
        panic!("not sparse")
    };
    assert_eq!(content.size(), 516);
    assert!(text(&tree, "a").ends_with(b"\0data"));
}

/// What is compressed, and what comes through a pipe.
#[test]
fn a_source_that_unpacks_to_too_much_is_refused() {
    let file = member(b'0', "a", &vec![0; 100_000]).bytes();
    let tar = [&file, END].concat();
    let mut newc = crate::archive::Archive::default();
    newc.add_file("a", 0o644, vec![0; 100_000]);
    let mut cpio = Vec::new();
    newc.write(&mut cpio, 0).unwrap();
    let pack = |bytes: &[u8]| compress(bytes.to_vec(), Compression::Zstd).unwrap();
    let nested = [cpio.clone(), pack(&cpio), pack(&cpio)].concat();
    for (name, bytes, size) in [
        ("tar", pack(&tar), tar.len()),
        ("two parts", [pack(&file), pack(END)].concat(), tar.len()),
        ("cpio", pack(&cpio), cpio.len()),
        ("segments", nested, 2 * cpio.len()),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let read = |max_size: usize| {
            let options = Options { max_size: max_size as u64, ..Options::default() };
            open(file.path(), &options, &mut Notes::default())
        };
        assert!(read(size).is_ok(), "{name}");
        let error = format!("{:#}", read(size - 1).unwrap_err());
        assert!(error.contains("unpacks to more than"), "{name}: {error}");
        assert!(error.contains("--max-size"), "{name}: {error}");
    }
}

#[test]
fn what_can_be_read_once_is_copied_up_to_the_limit() {
    let zeroes = fs::File::open("/dev/zero").unwrap();
    let mut out = Vec::new();
    let error = copy(&zeroes, &mut out, 100_000).unwrap_err();
    assert_eq!((error.downcast_ref(), out.len()), (Some(&TooLarge { limit: 100_000 }), 100_000));
    copy(&fs::File::open("/dev/null").unwrap(), &mut out, 0).unwrap();
}
