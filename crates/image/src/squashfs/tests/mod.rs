//! Tests of squashfs: images are written, read back and compared with their tree.

mod hostile;
mod tools;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use files::notes::Notes;
use tempfile::NamedTempFile;

use super::{Compressor, SquashfsOptions, read, write};
use crate::progress::Progress;
use crate::sample::{add, bytes_of, contents, file, listing, nasty, noise, text};
use crate::source::dir;
use crate::tree::{Children, Content, Kind, Meta, Tree, Xattrs};

/// Sets of options that lead to different code paths.
fn all_options() -> [SquashfsOptions; 5] {
    let gzip = SquashfsOptions { time: 7, threads: 2, ..SquashfsOptions::default() };
    let with = |compressor, level, block_size| SquashfsOptions {
        compressor,
        level,
        block_size,
        ..gzip.clone()
    };
    [
        with(Compressor::Gzip, None, 128 << 10),
        with(Compressor::Zstd, Some(3), 4096),
        with(Compressor::Xz, Some(0), 64 << 10),
        with(Compressor::Lz4, None, 1 << 20),
        // Level 0 does not compress, so contents and metadata are stored unchanged.
        with(Compressor::Gzip, Some(0), 128 << 10),
    ]
}

/// Sample tree without the metadata that squashfs loses.
fn sample() -> Tree {
    let mut tree = nasty();
    for meta in tree.metas_mut() {
        meta.mtime = meta.mtime.max(0);
        meta.xattrs.retain(|name, _| !name.starts_with(b"system."));
    }
    tree
}

fn written(
    tree: &Tree,
    options: &SquashfsOptions,
    notes: &mut Notes,
) -> anyhow::Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    let progress = Progress::bar(tree, String::new());
    write(tree, options, file.as_file(), notes, &progress).map(|()| file)
}

fn image(tree: &Tree, options: &SquashfsOptions) -> NamedTempFile {
    let mut notes = Notes::default();
    let file = written(tree, options, &mut notes).unwrap();
    assert_eq!(notes.lines().count(), 0);
    file
}

fn opened(path: &Path) -> anyhow::Result<Tree> {
    read(Arc::new(File::open(path).unwrap()))
}

#[test]
fn an_image_reads_back_as_its_tree() {
    let tree = sample();
    let expected = listing(&tree).unwrap();
    for options in all_options() {
        let image = image(&tree, &options);
        assert_eq!(bytes_of(&image).len() % 4096, 0);
        let found = listing(&opened(image.path()).unwrap()).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{options:?}");
        }
        tools::agrees(&tree, &options, image.path());
    }
}

#[test]
fn threads_do_not_change_the_image() {
    let mut tree = Tree::new(Meta::default());
    for number in 0..12 {
        let bytes = text(300_000 + number * 1000)[number * 100..].to_vec();
        add(&mut tree, Tree::ROOT, number.to_string().as_bytes(), file(bytes));
        add(&mut tree, Tree::ROOT, format!("noise {number}").as_bytes(), file(noise(5000)));
    }
    for options in all_options() {
        let bytes =
            |threads| bytes_of(&image(&tree, &SquashfsOptions { threads, ..options.clone() }));
        let one = bytes(1);
        assert!(one == bytes(3) && one == bytes(100), "{options:?}");
    }
}

/// The file has more than 4 GiB, almost all of it a hole.
#[test]
fn holes_take_no_space() {
    const SIZE: u64 = (5 << 30) + 3;
    let dir = tempfile::tempdir().unwrap();
    let sparse = File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(SIZE).unwrap();
    sparse.write_all_at(b"start", 1000).unwrap();
    sparse.write_all_at(b"end", SIZE - 3).unwrap();
    File::create(dir.path().join("nothing")).unwrap().set_len(1 << 20).unwrap();
    let tree = dir::read(dir.path(), &mut Notes::default()).unwrap();
    let image = image(&tree, &SquashfsOptions::default());
    assert!(bytes_of(&image).len() <= 8192);
    let found = opened(image.path()).unwrap();
    let content = |name: &[u8]| match &found.node(found.find(name).unwrap()).kind {
        Kind::File(content) => content.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(contents(&content(b"nothing")).unwrap(), vec![0; 1 << 20]);
    let sparse = content(b"sparse");
    assert_eq!(sparse.size(), SIZE);
    let mut reader = sparse.open().unwrap();
    let mut start = vec![0; 2000];
    reader.read_exact(&mut start).unwrap();
    assert_eq!(start[1000..1006], *b"start\0");
    let mut rest = reader.take(SIZE);
    let (mut buffer, mut count, mut last) = (vec![0; 1 << 20], 2000, Vec::new());
    loop {
        match rest.read(&mut buffer).unwrap() {
            0 => break,
            length => {
                count += length as u64;
                last = buffer[..length].to_vec();
            }
        }
    }
    assert_eq!((count, &last[..]), (SIZE, &b"end"[..]));
}

/// The names of the large directory, and their inodes, take several metadata blocks.
#[test]
fn a_directory_may_be_large() {
    let mut tree = Tree::new(Meta::default());
    let many = add(&mut tree, Tree::ROOT, b"many", Kind::Directory(Children::new()));
    for number in 0..70_000 {
        add(&mut tree, many, format!("{number:x} and a few more bytes").as_bytes(), Kind::Fifo);
    }
    for count in [1, 255, 256, 257, 513] {
        let name = format!("exactly {count}");
        let directory =
            add(&mut tree, Tree::ROOT, name.as_bytes(), Kind::Directory(Children::new()));
        for number in 0..count {
            add(&mut tree, directory, number.to_string().as_bytes(), file(text(number % 7)));
        }
    }
    let image = image(&tree, &SquashfsOptions::default());
    let found = opened(image.path()).unwrap();
    assert!(listing(&found).unwrap() == listing(&tree).unwrap());
    tools::lists(image.path(), tree.len());
}

#[test]
fn lost_metadata_is_noted() {
    let mut tree = Tree::new(Meta::default());
    let early = add(&mut tree, Tree::ROOT, b"early", file(text(10)));
    tree.node_mut(early).meta.mtime = -1;
    let xattrs: Xattrs = [b"system.posix_acl_access".as_slice(), b"user.a"]
        .map(|name| (name.into(), b"value".as_slice().into()))
        .into();
    tree.node_mut(early).meta.xattrs = xattrs;
    let mut notes = Notes::default();
    let image = written(&tree, &SquashfsOptions::default(), &mut notes).unwrap();
    let lines: Vec<_> = notes.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with(": early")), "{lines:?}");
    let found = opened(image.path()).unwrap();
    let meta = &found.node(found.find(b"early").unwrap()).meta;
    assert_eq!((meta.mtime, meta.xattrs.len()), (0, 1));
}

#[test]
fn metadata_and_options_beyond_the_format_are_refused() {
    let refused = |options: &SquashfsOptions, change: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::new(Meta::default());
        change(&mut tree);
        let error = written(&tree, options, &mut Notes::default()).unwrap_err();
        format!("{error:#}")
    };
    let usual = SquashfsOptions::default();
    let device = refused(&usual, &|tree| {
        add(tree, Tree::ROOT, b"dev", Kind::CharDevice(4096, 0));
    });
    assert!(device.starts_with("dev: device 4096:0"), "{device}");
    let xattr = refused(&usual, &|tree| {
        let value = vec![0; 65537].into();
        tree.node_mut(Tree::ROOT).meta.xattrs.insert(b"user.a".as_slice().into(), value);
    });
    assert!(xattr.contains("attribute \"user.a\": the value is too long"), "{xattr}");
    let owners = refused(&usual, &|tree| {
        for uid in 0..33_000 {
            let id = add(tree, Tree::ROOT, uid.to_string().as_bytes(), Kind::Fifo);
            (tree.node_mut(id).meta.uid, tree.node_mut(id).meta.gid) = (uid, 1_000_000 + uid);
        }
    });
    assert!(owners.contains("65535 owners"), "{owners}");
    let shrunk = refused(&usual, &|tree| {
        let archive = Arc::new(tempfile::tempfile().unwrap());
        let content = Content::Part { archive, offset: 0, size: 200_000 };
        add(tree, Tree::ROOT, b"short", Kind::File(content));
    });
    assert!(shrunk.starts_with("short: read: "), "{shrunk}");
    for options in [
        SquashfsOptions { block_size: 5000, ..SquashfsOptions::default() },
        SquashfsOptions { block_size: 2 << 20, ..SquashfsOptions::default() },
        SquashfsOptions { block_size: 0, ..SquashfsOptions::default() },
        SquashfsOptions { compressor: Compressor::Lzo, ..SquashfsOptions::default() },
    ] {
        refused(&options, &|_| ());
    }
}
