//! Tests with images that are damaged, or made to harm the reader.

use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::{ErofsOptions, read};
use super::{all_options, image, opened};
use crate::sample::{add, bytes_of, file, noise, read_all, text};
use crate::tree::{Children, Kind, Meta, Tree};

/// Small tree with one file for each data layout, for tests that read it often.
fn small() -> Tree {
    let mut tree = Tree::new(Meta::default());
    let directory = add(&mut tree, Tree::ROOT, b"d", Kind::Directory(Children::new()));
    add(&mut tree, directory, b"packed", file(text(30_000)));
    add(&mut tree, directory, b"plain", file(noise(9000)));
    add(&mut tree, directory, b"link", Kind::Symlink(b"target".as_slice().into()));
    let id = add(&mut tree, directory, b"attributes", file(text(100)));
    tree.node_mut(id).meta.xattrs.insert(b"user.a".as_slice().into(), b"b".as_slice().into());
    let mut sparse = vec![0; 1 << 20];
    sparse[70_000] = 1;
    add(&mut tree, directory, b"sparse", file(sparse));
    tree
}

/// Images of [`small`], one for each set of options.
static SMALL: LazyLock<[Vec<u8>; 4]> =
    LazyLock::new(|| all_options().map(|options| bytes_of(&image(&small(), &options))));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn reading_a_damaged_image_ends(
        options in 0_usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut image = SMALL[options].clone();
        // Remove the checksum feature, because a wrong checksum would hide all other damage.
        image[1024 + 8] = 0;
        // Leave out most contents of files, because damage there has no effect on the reader.
        let mut interesting: Vec<_> = (1024..1200).chain(4096..5000).collect();
        interesting.extend(image.len() - 4096..image.len());
        for (index, byte) in changes {
            image[*index.get(&interesting)] = byte;
        }
        read_all(&image, read);
    }
}

#[test]
fn a_directory_is_entered_once() {
    let mut tree = Tree::new(Meta::default());
    let first = add(&mut tree, Tree::ROOT, b"first", Kind::Directory(Children::new()));
    add(&mut tree, first, b"second", Kind::Directory(Children::new()));
    let image = image(&tree, &ErofsOptions::default());
    let root_nid = 128_u64.to_le_bytes();
    let bytes = bytes_of(&image);
    let records: Vec<_> = bytes
        .windows(8)
        .enumerate()
        .filter(|(_, nid)| *nid > &root_nid[..] && nid[0] > 128 && nid[1..] == [0; 7])
        .map(|(at, _)| at)
        .collect();
    let mut cycles = 0;
    for at in records {
        image.as_file().write_all_at(&root_nid, at as u64).unwrap();
        let result = opened(image.path()).map_err(|error| format!("{error:#}"));
        cycles += u32::from(result.is_err_and(|error| error.contains("a second name")));
        image.as_file().write_all_at(&bytes[at..at + 8], at as u64).unwrap();
    }
    assert!(cycles >= 2, "{cycles}");
}

#[test]
fn unsupported_features_are_named() {
    let image = image(&small(), &ErofsOptions::default());
    for (bit, expected) in [(0x20_u8, "fragments"), (0x40, "long prefixes"), (0x80, "48-bit")] {
        image.as_file().write_all_at(&[bit], 1024 + 80).unwrap();
        let error = format!("{:#}", opened(image.path()).unwrap_err());
        assert!(error.starts_with("not supported") && error.contains(expected), "{error}");
    }
    image.as_file().write_all_at(&[1], 1024 + 80).unwrap();
    image.as_file().write_all_at(b"x", 1024 + 64).unwrap();
    let error = format!("{:#}", opened(image.path()).unwrap_err());
    assert!(error.contains("checksum"), "{error}");
    image.as_file().set_len(100).unwrap();
    assert!(opened(image.path()).is_err());
}

/// The test changes the sizes of files of every data layout.
#[test]
fn a_huge_file_size_is_refused() {
    let mut tree = small();
    for meta in tree.metas_mut() {
        meta.mtime = 9;
    }
    let image = image(&tree, &ErofsOptions::default());
    let bytes = bytes_of(&image);
    // Positions of the extended inodes of regular files.
    let inodes = (0..bytes.len() - 64)
        .step_by(32)
        .filter(|&at| bytes[at] & 1 == 1 && bytes[at + 4..at + 6] == 0o104_751_u16.to_le_bytes());
    let mut count = 0;
    for at in inodes {
        for size in [u64::MAX, u64::MAX >> 1, 1 << 62, 1 << 45] {
            image.as_file().write_all_at(&size.to_le_bytes(), at as u64 + 8).unwrap();
            let error = format!("{:#}", opened(image.path()).unwrap_err());
            assert!(error.contains(&format!("a file of {size} bytes")), "{error}");
            count += 1;
        }
        image.as_file().write_all_at(&bytes[at..at + 64], at as u64).unwrap();
    }
    assert!(count >= 4 * 4, "{count}");
}
