//! Tests of all formats: against each other, and against the system's own tools.

mod damage;
mod holes;
mod identity;
mod orders;
mod places;
mod times;
mod unpacking;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use archive::compress::{Compression, Encoder, Method};
use files::notes::Notes;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::compare::{Aspect, compare};
use crate::format::Format;
use crate::progress::Progress;
use crate::sample::{command, has, skip};
use crate::source::{self, ReadOptions, dir};
use crate::tree::{Content, Kind, Meta, Tree, directory};
use crate::write;
use crate::write::disk::{self, DiskOptions};

/// Makes files that are difficult for readers and writers, in one of two orders.
fn make_nasty(top: &Path, order: Order) {
    let long = "n".repeat(255);
    let deep = "d/".repeat(40);
    let mut files: Vec<(&[u8], u32, &[u8])> = vec![
        (b"setuid", 0o4755, b"#!/bin/sh\n"),
        (b"\xff\xfe not UTF-8 \x1b\n", 0o600, b"x"),
        (long.as_bytes(), 0o644, b"long"),
        (b"empty", 0o444, b""),
        (b"first", 0o640, b"two names"),
    ];
    if order == Order::Backward {
        files.reverse();
    }
    for (name, mode, bytes) in files {
        let path = top.join(OsStr::from_bytes(name));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::hard_link(top.join("first"), top.join("second")).unwrap();
    fs::create_dir_all(top.join(deep)).unwrap();
    fs::create_dir(top.join("sticky")).unwrap();
    fs::set_permissions(top.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("/nowhere/at all", top.join("dangling")).unwrap();
    let mut sparse = File::create(top.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(3 << 20)).unwrap();
    sparse.write_all(b"data").unwrap();
    sparse.set_len(5 << 20).unwrap();
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, top.join(name), kind, Mode::RUSR, device)
    };
    node("fifo", FileType::Fifo, 0).unwrap();
    // Only root can make devices and give files away.
    let _ = node("device", FileType::CharacterDevice, rustix::fs::makedev(1, 300));
    let _ = rustix::fs::chown(top.join("empty"), Some(rustix::fs::Uid::from_raw(3_000_000)), None);
    // Some file systems have no attributes.
    let flags = XattrFlags::empty();
    let _ = rustix::fs::setxattr(top.join("first"), "user.a", b"x\n\0\xff", flags);
    set_times(top);
}

/// Sets the time of a directory and of everything below it.
fn set_times(top: &Path) {
    let mut pending = vec![top.to_path_buf()];
    while let Some(path) = pending.pop() {
        if path.is_dir() && !path.is_symlink() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let time = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, &path, &times, flags).unwrap();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Forward,
    Backward,
}

fn nasty(order: Order) -> (tempfile::TempDir, Tree) {
    nasty_in(&std::env::temp_dir(), order)
}

fn nasty_in(parent: &Path, order: Order) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir_in(parent).unwrap();
    make_nasty(dir.path(), order);
    let tree = dir::read(dir.path(), &mut Notes::default()).unwrap();
    (dir, tree)
}

/// An archive of `tree` in memory.
fn written(tree: &Tree, format: Format, threads: u32) -> Vec<u8> {
    let method = Method { compression: format.compression(), level: None };
    let mut out = Encoder::new(Vec::new(), method, threads).unwrap();
    let mut notes = Notes::default();
    match format {
        Format::Cpio(_) => write::cpio::write(tree, &mut out, &mut notes).unwrap(),
        _ => write::tar::write(tree, &mut out, &mut notes).unwrap(),
    }
    out.finish().unwrap()
}

/// Writes a disk image to the new file `path`.
fn write_disk(tree: &Tree, format: Format, options: DiskOptions, path: &Path) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let options = DiskOptions { threads: options.threads.max(1), ..options };
    let (notes, progress) = (&mut Notes::default(), Progress::bar(tree, String::new()));
    disk::write(tree, format, &options, &file, notes, &progress).unwrap();
}

/// The bytes of a disk image.
fn disk_bytes(tree: &Tree, format: Format, options: DiskOptions) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    write_disk(tree, format, options, &path);
    fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> anyhow::Result<Tree> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    Ok(source::open(file.path(), &ReadOptions::default(), &mut Notes::default())?.tree)
}

fn assert_equal(name: &str, a: &Tree, b: &Tree, ignore: &[Aspect]) {
    let mut lines = Vec::new();
    compare(a, b, ignore, &mut |change| lines.push(change.to_string())).unwrap();
    assert!(lines.is_empty(), "{name}: {lines:#?}");
    let names = |tree: &Tree| tree.find(b"second").map(|id| tree.node(id).names);
    assert_eq!(names(a), names(b), "{name}");
}

/// Values that fit into the first buffer, and values that do not.
#[test]
fn attributes_of_a_directory_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let flags = XattrFlags::empty();
    for (name, size) in [("user.a", 1), ("user.long", 3000)] {
        if rustix::fs::setxattr(dir.path(), name, &vec![7; size], flags).is_err() {
            return skip(&format!("no extended attributes in {}", dir.path().display()));
        }
    }
    let tree = dir::read(dir.path(), &mut Notes::default()).unwrap();
    let xattrs = &tree.node(Tree::ROOT).meta.xattrs;
    assert_eq!(**xattrs.get(b"user.a".as_slice()).unwrap(), [7]);
    assert_eq!(**xattrs.get(b"user.long".as_slice()).unwrap(), [7; 3000]);
}

/// All archives, with every compression.
const STREAMS: &[Format] = &[
    Format::Cpio(Compression::None),
    Format::Cpio(Compression::Gzip),
    Format::Cpio(Compression::Zstd),
    Format::Cpio(Compression::Xz),
    Format::Cpio(Compression::Lz4),
    Format::Tar(Compression::None),
    Format::Tar(Compression::Gzip),
    Format::Tar(Compression::Zstd),
    Format::Tar(Compression::Xz),
];

#[test]
fn archives_keep_everything_but_attributes_in_a_cpio() {
    let (_dir, tree) = nasty(Order::Forward);
    for &format in STREAMS {
        let ignore: &[Aspect] =
            if matches!(format, Format::Cpio(_)) { &[Aspect::Xattrs] } else { &[] };
        let again = read(&written(&tree, format, 2)).unwrap();
        assert_equal(&format.to_string(), &tree, &again, ignore);
    }
}

#[test]
fn a_directory_gets_the_whole_tree() {
    let (_dir, tree) = nasty(Order::Forward);
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("new");
    let progress = Progress::bar(&tree, String::new());
    let mut notes = Notes::default();
    write::dir::write(&tree, &path, &mut notes, &progress).unwrap();
    let again = dir::read(&path, &mut Notes::default()).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let ignore: &[Aspect] = if is_root { &[] } else { &[Aspect::Owner] };
    assert_equal("dir", &tree, &again, ignore);
    let refused = write::dir::write(&tree, &path, &mut notes, &progress).unwrap_err();
    assert!(format!("{refused:#}").contains("exists already"), "{refused:#}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_directory_is_removed() {
    let (dir, tree) = nasty(Order::Forward);
    let parent = tempfile::tempdir().unwrap();
    fs::remove_file(dir.path().join("sparse")).unwrap();
    let progress = Progress::bar(&tree, String::new());
    let path = parent.path().join("new");
    let error = write::dir::write(&tree, &path, &mut Notes::default(), &progress).unwrap_err();
    assert!(format!("{error:#}").contains("sparse"), "{error:#}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_cpio_refuses_a_file_of_4_gib() {
    let mut tree = Tree::new(Meta::default());
    let file = tempfile::tempfile().unwrap();
    let content = Content::Part { archive: Arc::new(file), offset: 0, size: 4 << 30 };
    tree.put(b"big", Meta::default(), Kind::File(content)).unwrap();
    let mut out = Vec::new();
    let error = write::cpio::write(&tree, &mut out, &mut Notes::default()).unwrap_err();
    assert!(error.to_string().starts_with("big: a file of 4294967296 bytes"), "{error}");
    assert!(out.is_empty());
}

/// The name is refused only if it would end the archive, and only in a cpio.
#[test]
fn a_cpio_refuses_the_name_of_its_trailer() {
    for (path, is_taken) in [("TRAILER!!!", false), ("a/TRAILER!!!", true), ("TRAILER!!", true)] {
        for kind in [Kind::Fifo, directory(), Kind::Symlink(b"x"[..].into())] {
            let mut tree = Tree::new(Meta::default());
            tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
            tree.put(b"zzz", Meta::default(), Kind::Fifo).unwrap();
            let mut out = Vec::new();
            let result = write::cpio::write(&tree, &mut out, &mut Notes::default());
            assert_eq!(result.is_ok(), is_taken, "{path}");
            match result {
                Ok(()) => assert_equal(path, &tree, &read(&out).unwrap(), &[]),
                Err(error) => {
                    assert!(error.to_string().starts_with("/TRAILER!!!: a cpio archive ends"));
                    assert!(out.is_empty());
                }
            }
            let tar = read(&written(&tree, STREAMS[5], 0)).unwrap();
            assert_equal(path, &tree, &tar, &[]);
        }
    }
}

#[test]
fn values_too_large_for_fields_of_tar_are_kept() {
    let meta = Meta { uid: u32::MAX, gid: 0o10_000_000, mtime: -5, ..Meta::default() };
    let mut tree = Tree::new(meta.clone());
    let path = "a/".repeat(120);
    tree.put(path.as_bytes(), meta.clone(), directory()).unwrap();
    let link = Kind::Symlink(path.as_bytes().into());
    tree.put(b"link", Meta { mtime: 1 << 40, ..meta }, link).unwrap();
    assert_equal("tar", &tree, &read(&written(&tree, STREAMS[5], 0)).unwrap(), &[]);
}

/// Runs a tool, which must succeed. Returns its output.
fn accepted(name: &str, arguments: &[&OsStr]) -> String {
    let output = command(name).args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn cpio_and_tar_list_our_archives() {
    let (_dir, tree) = nasty(Order::Forward);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().as_os_str();
    fs::write(path, written(&tree, STREAMS[0], 0)).unwrap();
    if has("cpio") {
        let list = accepted("cpio", &["-tv".as_ref(), "--file".as_ref(), path]);
        assert!(list.contains("dangling -> /nowhere/at all"), "{list}");
    }
    fs::write(path, written(&tree, STREAMS[5], 0)).unwrap();
    if has("tar") {
        let list = accepted("tar", &["-tvf".as_ref(), path]);
        assert!(list.contains("second link to "), "{list}");
    }
}

/// Sparse files of GNU tar, in all of its formats.
#[test]
fn archives_of_gnu_tar_are_read() {
    let (dir, tree) = nasty(Order::Forward);
    if !has("tar") {
        return;
    }
    if !accepted("tar", &["--version".as_ref()]).contains("GNU tar") {
        return skip("tar is not GNU tar");
    }
    let options: &[&[&str]] = &[
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0", "--xattrs"],
        &["--format=pax", "--zstd"],
        &["--format=pax", "--xz"],
    ];
    for words in options {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut arguments: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        arguments.extend(["-cf".as_ref(), file.path().as_os_str()]);
        arguments.extend(["-C".as_ref(), dir.path().as_os_str(), ".".as_ref()]);
        // GNU tar starts the program that compresses.
        let program = words.last().and_then(|word| word.strip_prefix("--"));
        if program.filter(|name| ["xz", "zstd"].contains(name)).is_some_and(|name| !has(name)) {
            continue;
        }
        accepted("tar", &arguments);
        let again =
            source::open(file.path(), &ReadOptions::default(), &mut Notes::default()).unwrap().tree;
        assert_equal(&words.join(" "), &tree, &again, &[Aspect::Xattrs]);
    }
}

/// Writes a directory to each disk format, and reads it again.
#[test]
fn disks_keep_all_of_a_directory() {
    let (_dir, tree) = nasty(Order::Forward);
    for format in [Format::Erofs, Format::Ext4, Format::Squashfs] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = DiskOptions { threads: 2, ..DiskOptions::default() };
        let (notes, progress) = (&mut Notes::default(), Progress::bar(&tree, String::new()));
        disk::write(&tree, format, &options, file.as_file(), notes, &progress).unwrap();
        let found =
            source::open(file.path(), &ReadOptions::default(), &mut Notes::default()).unwrap();
        assert_eq!((found.format, notes.lines().count()), (format, 0));
        assert_equal(format.name(), &tree, &found.tree, &[]);
    }
}

#[test]
fn hostile_members_are_refused() {
    let member = |kind: u8, name: &str, target: &str| {
        let mut header = tar::Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        ustar.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
            set(&mut header, 0);
        }
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    for (name, members) in [
        ("climbing", vec![member(b'0', "../x", "")]),
        ("climbing inside", vec![member(b'0', "a/../../x", "")]),
        ("through a file", vec![member(b'0', "a", ""), member(b'0', "a/x", "")]),
        ("in a circle", vec![member(b'2', "a", "a"), member(b'0', "a/x", "")]),
        ("a link out", vec![member(b'1', "a", "../etc/passwd")]),
        ("a link to a missing file", vec![member(b'1', "a", "b")]),
        ("a directory twice", vec![member(b'5', "a", ""), member(b'1', "b", "a")]),
    ] {
        assert!(read(&members.concat()).is_err(), "{name}");
    }
    let merged = [
        member(b'2', "lib", "/usr/lib"),
        member(b'0', "lib/x", ""),
        member(b'1', "y", "lib/x"),
        vec![0; 1024],
    ];
    let tree = read(&merged.concat()).unwrap();
    assert_eq!(tree.find(b"usr/lib/x"), tree.find(b"y"));
    assert_eq!(tree.node(tree.find(b"y").unwrap()).names, 2);
    let last = [member(b'2', "a", "x"), member(b'2', "/a", "y"), vec![0; 1024]].concat();
    let tree = read(&last).unwrap();
    let Kind::Symlink(target) = &tree.node(tree.find(b"a").unwrap()).kind else {
        panic!("no link")
    };
    assert_eq!(**target, *b"y");
}
