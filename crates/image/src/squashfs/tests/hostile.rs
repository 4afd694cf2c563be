//! Images that are damaged, or made to do harm.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::super::image::Image;
use super::super::layout::Superblock;
use super::super::{Options, read};
use super::{all_options, image, opened};
use crate::sample::{add, bytes_of, file, noise, read_all, text};
use crate::tree::{Children, Kind, Meta, Tree};

/// A small tree with each way to store a file, for tests that read it often.
fn small() -> Tree {
    let mut tree = Tree::new(Meta::default());
    let directory = add(&mut tree, Tree::ROOT, b"d", Kind::Directory(Children::new()));
    add(&mut tree, directory, b"packed", file(text(300_000)));
    add(&mut tree, directory, b"plain", file(noise(140_000)));
    add(&mut tree, directory, b"link", Kind::Symlink(b"target".as_slice().into()));
    let id = add(&mut tree, directory, b"attributes", file(text(100)));
    tree.node_mut(id).meta.xattrs.insert(b"user.a".as_slice().into(), b"b".as_slice().into());
    tree.link(Tree::ROOT, b"again", id).unwrap();
    let mut sparse = vec![0; 1 << 20];
    sparse[700_000] = 1;
    add(&mut tree, directory, b"sparse", file(sparse));
    tree
}

/// As small ones with metadata as it is, so that damage is not found by a check sum.
fn plain() -> Options {
    Options { level: Some(0), ..Options::default() }
}

fn superblock(image: &[u8]) -> Superblock {
    Superblock::decode(image).unwrap()
}

/// What each of the options makes of it.
static SMALL: LazyLock<[Vec<u8>; 5]> =
    LazyLock::new(|| all_options().map(|options| bytes_of(&image(&small(), &options))));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damage_ends_in_an_answer(
        // The last has its metadata as it is.
        options in 0_usize..10,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut image = SMALL[options.min(4)].clone();
        let superblock = superblock(&image);
        // Most bytes are contents, in which little can be wrong.
        let used = |at: u64| usize::try_from(at).unwrap();
        let mut interesting: Vec<_> = (0..200).collect();
        interesting.extend(used(superblock.inode_table)..used(superblock.bytes_used));
        for (index, byte) in changes {
            image[*index.get(&interesting)] = byte;
        }
        read_all(&image, read);
    }

    #[test]
    fn truncation_ends_in_an_error(options in 0_usize..5, length in any::<prop::sample::Index>()) {
        let mut image = SMALL[options].clone();
        let used = superblock(&image).bytes_used;
        image.truncate(length.index(usize::try_from(used).unwrap()));
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &image).unwrap();
        prop_assert!(read(Arc::new(file)).is_err());
        // Nor where the superblock says that it is all.
        if let Some(told) = image.get_mut(40..48) {
            told.copy_from_slice(&length.index(usize::try_from(used).unwrap()).to_le_bytes());
            read_all(&image, read);
        }
    }
}

/// Every name made one of the root.
#[test]
fn a_directory_is_entered_once() {
    let mut tree = Tree::new(Meta::default());
    let first = add(&mut tree, Tree::ROOT, b"first", Kind::Directory(Children::new()));
    add(&mut tree, first, b"second", Kind::Directory(Children::new()));
    let image = image(&tree, &plain());
    let bytes = bytes_of(&image);
    let superblock = superblock(&bytes);
    let [low, high, ..] = superblock.root.to_le_bytes();
    let mut cycles = 0;
    for at in superblock.directory_table..superblock.id_table - 1 {
        image.as_file().write_all_at(&[low, high], at).unwrap();
        let result = opened(image.path()).map_err(|error| format!("{error:#}"));
        cycles += u32::from(result.is_err_and(|error| error.contains("a second name")));
        let old = &bytes[usize::try_from(at).unwrap()..][..2];
        image.as_file().write_all_at(old, at).unwrap();
    }
    assert_eq!(cycles, 2);
}

/// Numbers that are as large as they get, at every place of the metadata.
#[test]
fn huge_numbers_end_in_an_answer() {
    let image = bytes_of(&image(&small(), &plain()));
    let superblock = superblock(&image);
    let metadata = usize::try_from(superblock.inode_table).unwrap()
        ..usize::try_from(superblock.bytes_used).unwrap();
    for at in (0..96).chain(metadata) {
        for width in [2, 4, 8] {
            let mut image = image.clone();
            image[at..].iter_mut().take(width).for_each(|byte| *byte = 0xff);
            read_all(&image, read);
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let image = image(&small(), &Options::default());
    for (at, byte, expected) in [
        (20, 2, "not supported: squashfs with lzma"),
        (20, 9, "not supported: compressor 9"),
        (28, 3, "not supported: squashfs 3.0"),
        (22, 9, "a block size of 131072 bytes and 2^9"),
        (0, b'x', "no squashfs"),
    ] {
        let bytes = bytes_of(&image);
        image.as_file().write_all_at(&[byte], at).unwrap();
        let error = format!("{:#}", opened(image.path()).unwrap_err());
        assert!(error.starts_with(expected), "{error}");
        image.as_file().write_all_at(&bytes, 0).unwrap();
    }
    image.as_file().set_len(50).unwrap();
    assert!(opened(image.path()).is_err());
}

/// Headers of empty metadata blocks hold no names, however many there are.
#[test]
fn empty_blocks_make_room_for_nothing() {
    const ZEROS: usize = 1 << 20;
    let mut bytes = bytes_of(&image(&small(), &plain()));
    let start = bytes.len() as u64;
    bytes.resize(bytes.len() + ZEROS, 0);
    let end = bytes.len().to_le_bytes();
    bytes[40..48].copy_from_slice(&end);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let opened = Image::open(Arc::new(file)).unwrap();
    assert_eq!(opened.metadata_size(start).unwrap(), 0);
}

/// Sizes that no image has room for, in every field that could be one.
#[test]
fn a_size_near_the_largest_is_refused() {
    let image = bytes_of(&image(&small(), &plain()));
    let superblock = superblock(&image);
    let metadata = usize::try_from(superblock.inode_table).unwrap()
        ..usize::try_from(superblock.directory_table).unwrap();
    let mut refused = 0;
    for at in metadata {
        for size in [u64::MAX >> 1, u64::MAX >> 2, 1 << 40] {
            let mut image = image.clone();
            image[at..at + 8].copy_from_slice(&size.to_le_bytes());
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &image).unwrap();
            if let Err(error) = read(Arc::new(file)) {
                refused += u32::from(format!("{error:#}").contains("inodes have no room"));
            }
        }
    }
    assert!(refused >= 3, "{refused}");
}
