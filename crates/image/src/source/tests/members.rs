//! Members of tar archives of all types, and data after the last one.

use super::{END, member, node, paths, read, records, refused, text};
use crate::tree::Kind;
use crate::ustar;

#[test]
fn zeros_are_an_empty_archive_but_an_empty_file_is_not() {
    for blocks in [1, 2, 20] {
        let (tree, notes) = read(&[&vec![0; blocks * ustar::BLOCK]]).unwrap();
        assert!(paths(&tree).is_empty(), "{blocks}");
        let [note] = &notes[..] else { panic!("{blocks}: {notes:?}") };
        assert!(note.contains("without members"), "{blocks}: {note}");
    }
    refused("no bytes", &[b""], "unknown format");
}

#[test]
fn data_after_the_end_is_never_lost_without_a_note() {
    let (a, b) = (member(b'0', "a", b"1").bytes(), member(b'0', "b", b"2").bytes());
    for (name, parts, expected, notes) in [
        ("padding", &[&a[..], END, &[0; 9000]][..], &["a"][..], 0),
        ("no end", &[&a], &["a"], 1),
        ("one block of zeros", &[&a, &[0; ustar::BLOCK]], &["a"], 0),
        ("half a block of zeros", &[&a, &[0; 100]], &["a"], 0),
        ("two archives", &[&a, END, &b, END], &["a", "b"], 1),
        ("a block of zeros between", &[&a, &[0; ustar::BLOCK], &b, END], &["a", "b"], 1),
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
fn hard_links_may_contain_their_data() {
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
    // A hard link without a target is read as a file if it contains data.
    let tree = read(&[&header, &link().bytes(), END]).unwrap().0;
    assert_eq!(text(&tree, "b"), b"hello");
    let missing = member(b'1', "b", b"").to("a").bytes();
    refused("nothing there", &[&missing, &file, END], "the target of the link, a, is missing");
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
fn a_directory_with_a_size_but_no_data_hides_no_member() {
    let header = records(b'x', &[b"comment=x"]);
    let directory = member(b'5', "d", &[b'x'; 512]).bytes();
    let (c, e) = (member(b'0', "c", b"").bytes(), member(b'0', "e", b"").bytes());
    let (tree, _) = read(&[&header, &directory[..512], &c, &e, END]).unwrap();
    assert_eq!(paths(&tree), ["c", "d", "e"]);
}

#[test]
fn no_member_replaces_a_directory_that_is_not_empty() {
    let filled = [member(b'5', "d", b"").bytes(), member(b'0', "d/f", b"kept").bytes()].concat();
    let last = member(b'0', "last", b"after").bytes();
    for (name, other) in [
        ("file", member(b'0', "d", b"data")),
        ("link", member(b'2', "d", b"").to("elsewhere")),
        ("another name", member(b'1', "d", b"").to("d/f")),
        ("another name with data", member(b'1', "d", b"data").to("d/f")),
        ("device", member(b'3', "d", b"")),
    ] {
        let (tree, notes) = read(&[&filled, &other.bytes(), &last, END]).unwrap();
        assert_eq!(paths(&tree), ["d", "d/f", "last"], "{name}");
        assert_eq!(text(&tree, "d/f"), b"kept", "{name}");
        assert!(notes.len() == 1 && notes[0].contains("not empty"), "{name}: {notes:?}");
    }
    let empty = member(b'5', "d", b"").bytes();
    let (tree, notes) = read(&[&empty, &member(b'0', "d", b"file").bytes(), END]).unwrap();
    assert_eq!((text(&tree, "d"), notes.len()), (b"file".to_vec(), 0));
}
