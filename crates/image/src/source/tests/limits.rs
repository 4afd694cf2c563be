//! Limits of sources.

use std::fs;

use archive::compress::{Compression, compress};
use archive::spool::TooLarge;
use files::notes::Notes;

use super::{END, member, node, read, records, refused, text};
use crate::source::{ReadOptions, copy, open};
use crate::tree::{Content, Kind};

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

/// Compressed sources of all kinds, at the limit and above it.
#[test]
fn a_source_that_unpacks_to_too_many_bytes_is_refused() {
    let file = member(b'0', "a", &vec![0; 100_000]).bytes();
    let tar = [&file, END].concat();
    let mut newc = archive::Archive::default();
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
            let options = ReadOptions { max_size: max_size as u64, ..ReadOptions::default() };
            open(file.path(), &options, &mut Notes::default())
        };
        assert!(read(size).is_ok(), "{name}");
        let error = read(size - 1).unwrap_err();
        assert!(error.downcast_ref::<TooLarge>().is_some(), "{name}: {error:#}");
    }
}

#[test]
fn a_pipe_is_copied_up_to_the_limit() {
    let zeroes = fs::File::open("/dev/zero").unwrap();
    let mut out = Vec::new();
    let error = copy(&zeroes, &mut out, 100_000).unwrap_err();
    assert_eq!((error.downcast_ref(), out.len()), (Some(&TooLarge { limit: 100_000 }), 100_000));
    copy(&fs::File::open("/dev/null").unwrap(), &mut out, 0).unwrap();
}
