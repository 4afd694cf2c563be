//! Tests with images that are damaged, or made to harm the reader.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::super::layout::superblock::SquashfsSuperblock;
use super::super::read::image::SquashfsImage;
use super::super::{SquashfsOptions, read};
use super::{all_options, image, opened};
use crate::sample::{add, bytes_of, file, noise, read_all, text};
use crate::tree::{Children, Kind, Meta, Tree};

/// Small tree in which files are stored in every way, for tests that read it often.
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

/// Options that store metadata unchanged. A checksum of the compressor would find damage before
/// our checks do.
fn plain() -> SquashfsOptions {
    SquashfsOptions { level: Some(0), ..SquashfsOptions::default() }
}

fn superblock(image: &[u8]) -> SquashfsSuperblock {
    SquashfsSuperblock::decode(image).unwrap()
}

/// Images of [`small`], one for each set of options.
static SMALL: LazyLock<[Vec<u8>; 5]> =
    LazyLock::new(|| all_options().map(|options| bytes_of(&image(&small(), &options))));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn reading_a_damaged_image_ends(
        // Choose the last options most often, because their metadata is not compressed.
        options in 0_usize..10,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut image = SMALL[options.min(4)].clone();
        let superblock = superblock(&image);
        // Leave out the contents of files, because damage there has no effect on the reader.
        let used = |at: u64| usize::try_from(at).unwrap();
        let mut interesting: Vec<_> = (0..200).collect();
        interesting.extend(used(superblock.inode_table)..used(superblock.bytes_used));
        for (index, byte) in changes {
            image[*index.get(&interesting)] = byte;
        }
        read_all(&image, read);
    }

    #[test]
    fn a_truncated_image_is_refused(options in 0_usize..5, length in any::<prop::sample::Index>()) {
        let mut image = SMALL[options].clone();
        let used = superblock(&image).bytes_used;
        image.truncate(length.index(usize::try_from(used).unwrap()));
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &image).unwrap();
        prop_assert!(read(Arc::new(file)).is_err());
        // Claim in the superblock that the truncated image is complete.
        if let Some(bytes_used) = image.get_mut(40..48) {
            bytes_used.copy_from_slice(&length.index(usize::try_from(used).unwrap()).to_le_bytes());
            read_all(&image, read);
        }
    }
}

/// The test turns each name into a second name of the root.
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

/// Each field of the metadata gets its largest value in turn.
#[test]
fn reading_huge_numbers_ends() {
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
fn unsupported_superblocks_are_named() {
    let image = image(&small(), &SquashfsOptions::default());
    for (at, byte, expected) in [
        (20, 2, "not supported: squashfs with lzma"),
        (20, 9, "not supported: squashfs with the unknown compressor 9"),
        (28, 3, "not supported: squashfs 3.0"),
        (22, 9, "the superblock says blocks of 131072 and of 2^9 bytes"),
        (0, b'x', "this is no squashfs"),
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

/// Any number of empty metadata blocks has room for no names.
#[test]
fn empty_blocks_unpack_to_nothing() {
    const ZEROS: usize = 1 << 20;
    let mut bytes = bytes_of(&image(&small(), &plain()));
    let start = bytes.len() as u64;
    bytes.resize(bytes.len() + ZEROS, 0);
    let end = bytes.len().to_le_bytes();
    bytes[40..48].copy_from_slice(&end);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let opened = SquashfsImage::open(Arc::new(file)).unwrap();
    assert_eq!(opened.metadata_size(start).unwrap(), 0);
}

/// Each field that may be a size gets a huge value in turn.
#[test]
fn a_huge_file_size_is_refused() {
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
