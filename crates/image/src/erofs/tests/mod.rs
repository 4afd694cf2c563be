//! Round trips over a tree with everything in it.

mod hostile;
mod tools;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::{Compression, Options, read};
use crate::progress::Progress;
use crate::sample::{add, bytes_of, listing, nasty};
use crate::tree::{Kind, Meta, Tree};

/// Options that differ in every way that matters.
fn all_options() -> [Options; 4] {
    let lz4 = Options { time: 7, threads: 2, ..Options::default() };
    [
        Options { compression: Compression::None, ..lz4.clone() },
        Options { label: "fifteen bytes..".into(), uuid: Some([7; 16]), ..lz4.clone() },
        Options { cluster_size: 65536, ..lz4.clone() },
        Options { compression: Compression::Lz4hc(5), ..lz4 },
    ]
}

fn write(tree: &Tree, options: &Options, out: &File) -> anyhow::Result<()> {
    super::write(tree, options, out, &Progress::bar(tree, String::new()))
}

fn image(tree: &Tree, options: &Options) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(tree, options, file.as_file()).unwrap();
    file
}

fn opened(path: &Path) -> anyhow::Result<Tree> {
    read(Arc::new(File::open(path).unwrap()))
}

#[test]
fn what_is_written_is_read() {
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
        let one = bytes_of(&image(&tree, &Options { threads: 1, ..options.clone() }));
        for threads in [2, 100] {
            let other = bytes_of(&image(&tree, &Options { threads, ..options.clone() }));
            assert!(one == other, "{threads} threads, {options:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let with = |change: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::new(Meta::default());
        change(&mut tree);
        let out = tempfile::tempfile().unwrap();
        format!("{:#}", write(&tree, &Options::default(), &out).unwrap_err())
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
    assert!(xattr(b"os2.ea", 1).contains("attribute \"os2.ea\": EROFS has no such name space"));
    assert!(xattr(b"user.a", 65536).contains("attribute \"user.a\": the value is too long"));
    for options in [
        Options { cluster_size: 5000, ..Options::default() },
        Options { cluster_size: 2 << 20, ..Options::default() },
        Options { label: "sixteen bytes...".into(), ..Options::default() },
    ] {
        let out = tempfile::tempfile().unwrap();
        assert!(write(&Tree::new(Meta::default()), &options, &out).is_err(), "{options:?}");
    }
}
