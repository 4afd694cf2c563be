//! Tests of EROFS: images are written, read back and compared with their tree.

mod hostile;
mod tools;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::{ErofsCompression, ErofsOptions, read};
use crate::progress::Progress;
use crate::sample::{add, bytes_of, listing, nasty};
use crate::tree::{Kind, Meta, Tree};

/// Sets of options that lead to different code paths.
fn all_options() -> [ErofsOptions; 4] {
    let lz4 = ErofsOptions { time: 7, threads: 2, ..ErofsOptions::default() };
    [
        ErofsOptions { compression: ErofsCompression::None, ..lz4.clone() },
        ErofsOptions { label: "fifteen bytes..".into(), uuid: Some([7; 16]), ..lz4.clone() },
        ErofsOptions { cluster_size: 65536, ..lz4.clone() },
        ErofsOptions { compression: ErofsCompression::Lz4hc(5), ..lz4 },
    ]
}

fn write(tree: &Tree, options: &ErofsOptions, out: &File) -> anyhow::Result<()> {
    super::write(tree, options, out, &Progress::bar(tree, String::new()))
}

fn image(tree: &Tree, options: &ErofsOptions) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(tree, options, file.as_file()).unwrap();
    file
}

fn opened(path: &Path) -> anyhow::Result<Tree> {
    read(Arc::new(File::open(path).unwrap()))
}

#[test]
fn an_image_reads_back_as_its_tree() {
    let tree = nasty();
    let expected = listing(&tree).unwrap();
    for options in all_options() {
        let image = image(&tree, &options);
        let found = listing(&opened(image.path()).unwrap()).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{options:?}");
        }
    }
}

#[test]
fn threads_do_not_change_the_image() {
    let tree = nasty();
    for options in all_options() {
        let one = bytes_of(&image(&tree, &ErofsOptions { threads: 1, ..options.clone() }));
        for threads in [2, 100] {
            let other = bytes_of(&image(&tree, &ErofsOptions { threads, ..options.clone() }));
            assert!(one == other, "{threads} threads, {options:?}");
        }
    }
}

#[test]
fn metadata_and_options_beyond_the_format_are_refused() {
    let with = |change: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::new(Meta::default());
        change(&mut tree);
        let out = tempfile::tempfile().unwrap();
        format!("{:#}", write(&tree, &ErofsOptions::default(), &out).unwrap_err())
    };
    let device = with(&|tree| {
        add(tree, Tree::ROOT, b"dev", Kind::CharDevice(4096, 0));
    });
    assert!(device.starts_with("dev: device 4096:0"), "{device}");
    let xattr = |name: &'static [u8], size: usize| {
        with(&|tree| {
            tree.node_mut(Tree::ROOT).meta.xattrs.insert(name.into(), vec![0; size].into());
        })
    };
    assert!(
        xattr(b"os2.ea", 1).contains("attribute \"os2.ea\": EROFS does not have this name space")
    );
    assert!(xattr(b"user.a", 65536).contains("attribute \"user.a\": the value is too long"));
    for options in [
        ErofsOptions { cluster_size: 5000, ..ErofsOptions::default() },
        ErofsOptions { cluster_size: 2 << 20, ..ErofsOptions::default() },
        ErofsOptions { label: "sixteen bytes...".into(), ..ErofsOptions::default() },
    ] {
        let out = tempfile::tempfile().unwrap();
        assert!(write(&Tree::new(Meta::default()), &options, &out).is_err(), "{options:?}");
    }
}
