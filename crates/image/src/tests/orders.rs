//! Images depend neither on the order of their source nor on the number of threads.
//!
//! Two archives with the same members in two orders give equal bytes in every format.
//! Directories alone would not prove this, because some file systems sort names.

use std::ffi::OsString;

use tar::{Builder, EntryType, Header};

use super::*;

/// A member: path, type, contents or target, permissions.
type MemberRow = (String, EntryType, Vec<u8>, u32);

/// Directories, links, special files and contents of several sizes.
fn members() -> Vec<MemberRow> {
    let mut members: Vec<MemberRow> = Vec::new();
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

/// Reads an archive of `members` and of one file with three names; the first of `names`
/// has the contents.
fn archive(members: &[MemberRow], names: [&str; 3]) -> Tree {
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
    source::open(file.path(), &ReadOptions::default(), &mut Notes::default()).unwrap().tree
}

#[test]
fn images_do_not_depend_on_the_order_of_the_source() {
    let mut members = members();
    let one = archive(&members, ["d1/x", "a", "z/y"]);
    members.reverse();
    let two = archive(&members, ["z/y", "d1/x", "a"]);
    // The test needs two trees whose nodes have different numbers.
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
        let compress = compress.map(|compression| Method { compression, level: None });
        let options = DiskOptions { threads: 2, compress, ..DiskOptions::default() };
        let bytes = |tree| disk_bytes(tree, format, options.clone());
        assert!(bytes(&one) == bytes(&two), "{format}, {compress:?}");
    }
}

/// Names of a directory in the order of the file system.
fn listed(path: &Path) -> Vec<OsString> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// Uses two file systems: tmpfs lists names in the order of creation, ext4 by their hashes.
#[test]
fn images_depend_neither_on_order_nor_on_threads() {
    /// `TMPFS_MAGIC` (`include/uapi/linux/magic.h`).
    const TMPFS: i64 = 0x0102_1994;
    let memory = Path::new("/dev/shm");
    let is_tmpfs = rustix::fs::statfs(memory).is_ok_and(|found| found.f_type == TMPFS);
    if !is_tmpfs {
        skip("/dev/shm is no tmpfs");
    }
    let parents = if is_tmpfs { vec![memory] } else { Vec::new() };
    let temporary = std::env::temp_dir();
    for parent in parents.into_iter().chain([&*temporary]) {
        let (a_dir, a) = nasty_in(parent, Order::Forward);
        let (b_dir, b) = nasty_in(parent, Order::Backward);
        let orders_differ = listed(a_dir.path()) != listed(b_dir.path());
        assert!(orders_differ || parent != memory, "this cannot fail");
        for &format in STREAMS {
            assert!(written(&a, format, 1) == written(&b, format, 3), "{format}");
        }
        for format in [Format::Erofs, Format::Ext4, Format::Squashfs] {
            let options = |threads| DiskOptions { threads, ..DiskOptions::default() };
            let equal = disk_bytes(&a, format, options(1)) == disk_bytes(&b, format, options(3));
            assert!(equal, "{format}");
        }
    }
}
