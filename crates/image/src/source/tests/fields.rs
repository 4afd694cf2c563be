//! Fields of headers as other writers of tar fill them.

use super::{END, member, node, read, records, refused, text};

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
fn names_of_all_writers_are_read() {
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
        (
            "removed by an empty value",
            &[&records(b'x', &[b"path=other", b"path="]), &file().bytes()],
            "short",
        ),
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
    refused("a link without a target", &[&link, END], "no target");
}

#[test]
fn a_sum_may_be_signed() {
    let name = "\u{e9}t\u{e9}";
    for number in [|byte: u8| i64::from(byte), |byte: u8| i64::from(byte.cast_signed())] {
        let file = member(b'0', name, b"x").bytes_with_sum(number);
        assert_eq!(text(&read(&[&file, END]).unwrap().0, name), b"x");
    }
}
