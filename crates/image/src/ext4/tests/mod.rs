//! Tests of ext4: images are written, checked by e2fsprogs, read back and compared with
//! their tree.

mod foreign;
mod hostile;
mod scratch;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use anyhow::Result;

use super::layout::{bytes, inode};
use super::{Ext4Journal, Ext4Options, Ext4Size, Ext4Uuid, label, read};
use crate::progress::Progress;
use crate::sample::{command, has};
use crate::tree::{Children, Content, Kind, Meta, Node, Reader, Stored, Tree, mode};

fn options(size: Ext4Size) -> Ext4Options {
    Ext4Options {
        size,
        uuid: Ext4Uuid::Given(*b"0123456789abcdef"),
        label: label("test").unwrap(),
        time: 1_700_000_000,
        journal: Ext4Journal::BySize,
    }
}

const SLACK: Ext4Size = Ext4Size::Slack { percent: 10, bytes: 1 << 20 };

fn write(tree: &Tree, options: &Ext4Options, out: &File) -> Result<()> {
    super::write(tree, options, out, &Progress::bar(tree, String::new()))
}

fn image(tree: &Tree, size: Ext4Size) -> File {
    let file = tempfile::tempfile().unwrap();
    write(tree, &options(size), &file).unwrap();
    file
}

fn directory() -> Kind {
    Kind::Directory(Children::new())
}

fn file(bytes: impl AsRef<[u8]>) -> Kind {
    Kind::File(Content::Bytes(bytes.as_ref().into()))
}

fn meta(permissions: u16, mtime: i64) -> Meta {
    Meta { permissions, uid: 100_000, gid: 4_000_000_000, mtime, ..Meta::default() }
}

/// One line for each name of a tree, with all metadata and a hash of the contents.
fn described(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    let mut numbers = std::collections::HashMap::new();
    let mut visit = |path: &[u8], id| {
        let next = numbers.len();
        let number = *numbers.entry(id).or_insert(next);
        let Node { meta, kind, names } = tree.node(id);
        let detail = match kind {
            Kind::File(content) => {
                let mut hash = blake3::Hasher::new();
                let size = std::io::copy(&mut content.open()?, &mut hash)?;
                assert_eq!(size, content.size());
                format!("{size} {}", hash.finalize())
            }
            Kind::Directory(_) => String::new(),
            other => format!("{other:?}"),
        };
        let mode = mode(tree.node(id));
        lines.push(format!("{} {number} {mode:o} {names} {meta:?} {detail}", path.escape_ascii()));
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    lines
}

/// Checks an image with e2fsck(8), if that is installed.
fn check(image: &File) {
    let path =
        format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(image));
    if !has("e2fsck") {
        return;
    }
    let output = command("e2fsck").args(["-fn", &path]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // A clean image gives five lines for the passes, and a summary.
    let lines = said.lines().filter(|line| !line.starts_with("Pass ")).count();
    assert!(output.status.success() && lines == 1, "{said}");
}

/// Contents in which every `every`-th block has data, and all others are zero.
#[derive(Debug)]
struct SparsePattern {
    size: u64,
    every: u64,
}

impl Stored for SparsePattern {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(PatternReader { file: self, at: 0 }))
    }
}

/// Reader of [`SparsePattern`].
struct PatternReader<'a> {
    file: &'a SparsePattern,
    at: u64,
}

impl Reader for PatternReader<'_> {}

impl Read for PatternReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const BLOCK: u64 = bytes::BLOCK as u64;
        let (number, offset) = (self.at / BLOCK, self.at % BLOCK);
        let left = (BLOCK - offset).min(self.file.size - self.at);
        let count = usize::try_from(left).unwrap().min(buffer.len());
        let is_data = number % self.file.every == 0;
        buffer[..count].fill(if is_data { number.to_le_bytes()[0] | 1 } else { 0 });
        self.at += count as u64;
        Ok(count)
    }
}

fn sparse(size: u64, every: u64) -> Kind {
    Kind::File(Content::Stored(Arc::new(SparsePattern { size, every })))
}

fn with_xattrs(pairs: &[(&str, &[u8])]) -> Meta {
    let xattrs = pairs.iter().map(|(name, value)| (name.as_bytes().into(), (*value).into()));
    Meta { xattrs: xattrs.collect(), ..meta(0o644, 5) }
}

fn nasty() -> Tree {
    const ACL: &[u8] = &[
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255,
        255, 255, 255, 0x10, 0, 4, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255,
    ];
    let mut tree = Tree::new(meta(0o755, 1));
    let long = [b'n'; crate::tree::NAME_MAX];
    let target = [b't'; 4095];
    let rows: &[(&[u8], Meta, Kind)] = &[
        (b"file", meta(0o6755, -1), file("hello")),
        (b"empty", meta(0o644, 1 << 33), file("")),
        (b"page", meta(0o644, 2), file([7; 4096])),
        (b"zeros", meta(0o644, 3), file([0; 10_000])),
        (b"odd", meta(0o600, 4), file(vec![9; 1_000_001])),
        (&long, meta(0o644, 5), file("long")),
        (b"not \xff utf-8\n", meta(0o644, 5), file("x")),
        (b"tmp", meta(0o1777, 6), directory()),
        (b"fast", meta(0o777, 7), Kind::Symlink(target[..59].into())),
        (b"slow", meta(0o777, 7), Kind::Symlink(target[..60].into())),
        (b"slowest", meta(0o777, 7), Kind::Symlink(target.into())),
        (b"old", meta(0o666, 7), Kind::CharDevice(1, 3)),
        (b"new", meta(0o666, 7), Kind::CharDevice(4095, 1_048_575)),
        (b"block", meta(0o660, 7), Kind::BlockDevice(8, 256)),
        (b"pipe", meta(0o600, 7), Kind::Fifo),
        (b"socket", meta(0o600, 7), Kind::Socket),
        (b"sparse", meta(0o600, 7), sparse(20_000_000, 3)),
        (b"capable", with_xattrs(&[("security.capability", &[1; 20])]), file("x")),
        (b"acl", with_xattrs(&[("system.posix_acl_access", ACL)]), file("x")),
        (
            b"acls",
            with_xattrs(&[("system.posix_acl_default", ACL), ("user.a", &[3; 60])]),
            directory(),
        ),
        (
            b"much",
            with_xattrs(&[("trusted.b", &[4; 3000]), ("user.a", b""), ("user.c", b"c")]),
            file("x"),
        ),
        (
            b"linked",
            with_xattrs(&[("security.selinux", b"system_u:object_r:etc_t:s0\0")]),
            Kind::Symlink((*b"x").into()),
        ),
    ];
    for (name, meta, kind) in rows {
        tree.add(Tree::ROOT, name, meta.clone(), kind.clone()).unwrap();
    }
    let linked = tree.find(b"file").unwrap();
    let mut deep = tree.find(b"tmp").unwrap();
    for level in 0..300 {
        deep = tree.add(deep, b"d", meta(0o700, level), directory()).unwrap();
        tree.link(deep, b"hard", linked).unwrap();
    }
    tree
}

#[test]
fn an_image_reads_back_as_its_tree() {
    let tree = nasty();
    for size in [SLACK, Ext4Size::Exact(32 << 20), Ext4Size::Exact((160 << 20) + 512)] {
        let image = image(&tree, size);
        check(&image);
        let length = image.metadata().unwrap().len();
        assert!(!matches!(size, Ext4Size::Exact(bytes) if bytes != length));
        let read = read(Arc::new(image)).unwrap();
        assert_eq!(described(&read), described(&tree));
    }
}

#[test]
fn equal_trees_give_equal_bytes() {
    let images = [nasty(), nasty()].map(|tree| {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![0x55; 100_000], 3_000_000).unwrap();
        write(&tree, &options(SLACK), &file).unwrap();
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).unwrap();
        bytes
    });
    assert!(images[0] == images[1]);
    let again = read(Arc::new(image(&nasty(), SLACK))).unwrap();
    let mut bytes = Vec::new();
    image(&again, SLACK).read_to_end(&mut bytes).unwrap();
    assert!(images[0] == bytes);
}

/// The directory has two levels of index, and its files more inodes than a group.
#[test]
fn a_directory_can_be_large() {
    let mut tree = Tree::new(meta(0o755, 1));
    for number in 0..34_000 {
        let name = format!("a rather long name, so that there are many blocks: {number}");
        tree.add(Tree::ROOT, name.as_bytes(), meta(0o644, 1), Kind::Fifo).unwrap();
    }
    let image = image(&tree, SLACK);
    check(&image);
    assert_eq!(described(&read(Arc::new(image)).unwrap()), described(&tree));
}

#[test]
fn holes_take_no_space() {
    let mut tree = Tree::new(meta(0o755, 1));
    tree.add(Tree::ROOT, b"a", meta(0o644, 1), sparse(100 << 20, 1 << 10)).unwrap();
    let image = image(&tree, SLACK);
    check(&image);
    let metadata = image.metadata().unwrap();
    assert!(metadata.len() < 16 << 20, "{}", metadata.len());
    assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
    assert_eq!(described(&read(Arc::new(image)).unwrap()), described(&tree));
}

#[test]
fn trees_beyond_the_format_are_refused() {
    let linked = |count| {
        let mut tree = Tree::new(Meta::default());
        let id = tree.add(Tree::ROOT, b"first", Meta::default(), Kind::Fifo).unwrap();
        for number in 1..count {
            tree.link(Tree::ROOT, format!("{number}").as_bytes(), id).unwrap();
        }
        tree
    };
    let one = |meta, kind| {
        let mut tree = Tree::new(Meta::default());
        tree.add(Tree::ROOT, b"first", meta, kind).unwrap();
        tree
    };
    let plain = Meta::default;
    let big = with_xattrs(&[("user.big", &[0; 5000])]);
    let mut lost = Tree::new(plain());
    lost.add(Tree::ROOT, b"lost+found", plain(), Kind::Fifo).unwrap();
    for (name, tree, size, expected) in [
        (
            "link",
            one(plain(), Kind::Symlink([b'x'; 4096].into())),
            SLACK,
            "/first: the target of a symbolic link",
        ),
        ("attributes", one(big, Kind::Fifo), SLACK, "/first: its attributes"),
        (
            "device",
            one(plain(), Kind::CharDevice(4096, 0)),
            SLACK,
            "/first: ext4 cannot hold the device number",
        ),
        ("file", one(plain(), sparse(1 << 44, 1)), SLACK, "/first: a file"),
        ("names", linked(65_001), SLACK, "/1: the file has 65001 names"),
        ("lost+found", lost, SLACK, "not a directory"),
        (
            "size",
            one(plain(), file(vec![1; 100_000])),
            Ext4Size::Exact(100_000),
            "bytes are needed",
        ),
        ("nothing", linked(1), Ext4Size::Exact(0), "bytes are needed"),
        ("size", linked(1), Ext4Size::Exact(1 << 50), "16 TiB"),
    ] {
        let out = tempfile::tempfile().unwrap();
        out.set_len(5).unwrap();
        let error = write(&tree, &options(size), &out).expect_err(name);
        assert!(format!("{error:#}").contains(expected), "{name}: {error:#}");
        assert_eq!(out.metadata().unwrap().len(), 5, "{name}");
    }
    write(&linked(65_000), &options(SLACK), &tempfile::tempfile().unwrap()).unwrap();
    assert!(label("seventeen letters").is_err());
}

/// An error names the smallest size that is enough.
#[test]
fn an_image_that_is_too_small_names_the_needed_size() {
    let mut tree = Tree::new(meta(0o755, 1));
    for number in 0..300_u32 {
        let bytes = vec![1; number as usize * 100];
        let name = number.to_string();
        tree.add(Tree::ROOT, name.as_bytes(), meta(0o644, 1), file(bytes)).unwrap();
    }
    let error = write(&tree, &options(Ext4Size::Exact(1 << 20)), &tempfile::tempfile().unwrap());
    let error = format!("{:#}", error.unwrap_err());
    let words: Vec<_> = error.split(' ').collect();
    let bytes = words.iter().filter_map(|word| word.parse::<u64>().ok()).max().unwrap();
    check(&image(&tree, Ext4Size::Exact(bytes)));
    let less = options(Ext4Size::Exact(bytes - 4096));
    assert!(write(&tree, &less, &tempfile::tempfile().unwrap()).is_err());
}
