//! Images do not show the order of their source: two archives with the same members
//! in two orders give equal bytes in every format. A directory cannot test that, for
//! some file systems sort names by themselves.

use std::fs;

use tar::{Builder, EntryType, Header};

use super::format::Format;
use super::progress::Progress;
use super::source;
use super::tests::{STREAMS, written};
use super::tree::{Kind, Tree};
use super::write::disk;
use crate::archive::compress::Compression;
use crate::archive::stream::Method;
use crate::notes::Notes;

/// A member: path, type, contents or target, permissions.
type Member = (String, EntryType, Vec<u8>, u32);

/// Directories, links, special files and contents of several sizes.
fn members() -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for number in 0_u32..300 {
        let size = number * 131 % 9000;
        let noise = (0..size).map(|at| (at * number / 8).to_le_bytes()[0]).collect();
        let path = format!("d{}/e{}/file {number}", number % 7, number % 3);
        members.push((path, EntryType::Regular, noise, 0o600 + number % 8));
    }
    for number in 0..7 {
        members.push((format!("d{number}"), EntryType::Directory, Vec::new(), 0o700 + number));
        for inner in 0..3 {
            let path = format!("d{number}/e{inner}");
            members.push((path, EntryType::Directory, Vec::new(), 0o711));
        }
        let target = format!("d{number}/nowhere").into_bytes();
        members.push((format!("link {number}"), EntryType::Symlink, target, 0o777));
        members.push((format!("fifo {number}"), EntryType::Fifo, Vec::new(), 0o640));
    }
    members
}

/// An archive of `members`, and of files with several names, whose first name is
/// another in each order.
fn archive(members: &[Member], names: [&str; 3]) -> Tree {
    let mut builder = Builder::new(Vec::new());
    let mut append = |path: &str, kind, bytes: &[u8], mode| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(mode.into());
        header.set_gid(0);
        header.set_mtime(u64::from(mode) * 1000);
        match kind {
            EntryType::Symlink | EntryType::Link => {
                header.set_size(0);
                let target = std::str::from_utf8(bytes).unwrap();
                builder.append_link(&mut header, path, target).unwrap();
            }
            _ => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, bytes).unwrap();
            }
        }
    };
    let [first, others @ ..] = names;
    append(first, EntryType::Regular, b"several names", 0o644);
    for (path, kind, bytes, mode) in members {
        append(path, *kind, bytes, *mode);
    }
    for name in others {
        append(name, EntryType::Link, first.as_bytes(), 0o644);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), builder.into_inner().unwrap()).unwrap();
    source::open(file.path(), &source::Options::default(), &mut Notes::default()).unwrap().tree
}

/// The bytes of a disk image of `tree`.
fn disk(tree: &Tree, format: Format, compress: Option<Compression>) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let compress = compress.map(|compression| Method { compression, level: None });
    let options = disk::Options { threads: 2, compress, ..disk::Options::default() };
    let (notes, progress) = (&mut Notes::default(), Progress::bar(tree, String::new()));
    disk::write(tree, format, &options, file.as_file(), notes, &progress).unwrap();
    fs::read(file.path()).unwrap()
}

#[test]
fn the_order_of_the_source_does_not_show() {
    let mut members = members();
    let one = archive(&members, ["d1/x", "a", "z/y"]);
    members.reverse();
    let two = archive(&members, ["z/y", "d1/x", "a"]);
    // Otherwise nothing is tested.
    let order = |tree: &Tree| tree.find(b"d1/e1/file 1").unwrap().number();
    assert_ne!(order(&one), order(&two));
    for tree in [&one, &two] {
        assert_eq!(tree.node(tree.find(b"a").unwrap()).names, 3);
        assert!(matches!(tree.node(tree.find(b"z/y").unwrap()).kind, Kind::File(_)));
    }
    for &format in STREAMS {
        assert!(written(&one, format, 1) == written(&two, format, 1), "{format}");
    }
    for (format, compress) in [
        (Format::Erofs, None),
        (Format::Erofs, Some(Compression::None)),
        (Format::Ext4, None),
        (Format::Squashfs, None),
    ] {
        let equal = disk(&one, format, compress) == disk(&two, format, compress);
        assert!(equal, "{format}, {compress:?}");
    }
}
