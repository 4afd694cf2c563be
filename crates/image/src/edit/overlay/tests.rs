//! Layers by hand, layers through disk images, and random pairs of trees.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::compare::compare;
use crate::format::Format;
use crate::progress::Progress;
use crate::sample::nasty;
use crate::source::{self, ReadOptions};
use crate::tree::{Content, Stored};
use crate::write::disk::{self, DiskOptions};
use files::notes::Notes;

fn content(text: &str) -> Kind {
    Kind::File(Content::Bytes(text.as_bytes().into()))
}

fn xattr(name: &str, value: &str) -> Meta {
    let pair = (name.as_bytes().into(), value.as_bytes().into());
    Meta { permissions: 0o755, xattrs: [pair].into(), ..Meta::default() }
}

/// A tree of lines: `PATH/` a directory, `PATH=TEXT` a file, `PATH->TARGET` a link, `PATH!` a
/// whiteout, `PATH/!` an opaque directory, `PATH~OTHER` a further name.
fn tree(lines: &[&str]) -> Tree {
    let meta = Meta { permissions: 0o755, ..Meta::default() };
    let mut tree = Tree::new(meta.clone());
    for line in lines {
        let mut put = |path: &str, meta: &Meta, kind| {
            tree.put(path.as_bytes(), meta.clone(), kind).unwrap();
        };
        if let Some((path, other)) = line.split_once('~') {
            let id = tree.find(other.as_bytes()).unwrap();
            tree.put_link(path.as_bytes(), id).unwrap();
        } else if let Some((path, target)) = line.split_once("->") {
            put(path, &meta, Kind::Symlink(target.as_bytes().into()));
        } else if let Some((path, text)) = line.split_once('=') {
            put(path, &meta, content(text));
        } else if let Some(path) = line.strip_suffix("/!") {
            put(path, &xattr("trusted.overlay.opaque", "y"), directory());
        } else if let Some(path) = line.strip_suffix('!') {
            put(path, &Meta::default(), Kind::CharDevice(0, 0));
        } else {
            put(line, &meta, directory());
        }
    }
    tree
}

fn changes(a: &Tree, b: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    compare(a, b, &[], &mut |change| lines.push(change.to_string())).unwrap();
    lines
}

#[test]
#[rustfmt::skip]
fn names_of_a_layer_replace_those_below() {
    /// Name of the case, lines of the tree, of the layer, and of the result.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let cases: &[Case] = &[
        ("an empty layer",                  &["a=1", "d/"],            &[],                        &["a=1", "d/"]),
        ("a new file",                      &["a=1"],                  &["d/b=2"],                 &["a=1", "d/b=2"]),
        ("a file on a file",                &["a=1"],                  &["a=2"],                   &["a=2"]),
        ("a file on a directory",           &["a/b=1", "c=1"],         &["a=2"],                   &["a=2", "c=1"]),
        ("a directory on a file",           &["a=1"],                  &["a/b=2"],                 &["a/b=2"]),
        ("a directory on a link",           &["a->d", "d/x=1"],        &["a/b=2"],                 &["a/b=2", "d/x=1"]),
        ("a link on a directory",           &["a/b=1"],                &["a->d"],                  &["a->d"]),
        ("directories merge",               &["a/b=1", "a/c=1"],       &["a/c=2", "a/d=2"],        &["a/b=1", "a/c=2", "a/d=2"]),
        ("a whiteout",                      &["a=1", "b/c=1", "d=1"],  &["a!", "b!"],              &["d=1"]),
        ("a whiteout of a missing name",    &["a=1"],                  &["b!", "c/d!"],            &["a=1", "c/"]),
        ("a whiteout of one of two names",  &["a=1", "b~a"],           &["a!"],                    &["b=1"]),
        ("an opaque directory",             &["a/b=1", "a/c/d=1"],     &["a/!", "a/e=2"],          &["a/e=2"]),
        ("an opaque directory that is new", &["b=1"],                  &["a/!", "a/e=2"],          &["a/e=2", "b=1"]),
        ("a whiteout in an opaque one",     &["a/b=1"],                &["a/!", "a/b!"],           &["a/"]),
        ("hard links of the layer",         &["a=1"],                  &["d/b=2", "a~d/b"],        &["d/b=2", "a~d/b"]),
        ("one of two names replaced",       &["a=1", "b~a"],           &["a=2"],                   &["a=2", "b=1"]),
    ];
    for (name, before, layer, expected) in cases {
        let mut found = tree(before);
        apply(&mut found, &tree(layer), Tree::ROOT, RootMeta::OfTree).unwrap();
        assert_eq!(changes(&tree(expected), &found), [""; 0], "{name}");
        let remade = difference(&tree(before), &found).unwrap();
        let mut again = tree(before);
        apply(&mut again, &remade, Tree::ROOT, RootMeta::OfLayer).unwrap();
        assert_eq!(changes(&found, &again), [""; 0], "{name}, again");
    }
}

#[test]
fn a_layer_may_be_a_directory_of_a_disk() {
    let disk = tree(&["1/upper/a/!", "1/upper/a/b=2", "1/upper/gone!", "1/points/x=1", "2/upper/"]);
    let mut disk = disk;
    let top = disk.find(b"1/upper").unwrap();
    let root = xattr("trusted.overlay.impure", "y");
    disk.node_mut(top).meta = Meta { uid: 7, ..root };
    let file = disk.find(b"1/upper/a/b").unwrap();
    disk.node_mut(file).meta = xattr("trusted.overlay.origin", "x");
    disk.node_mut(file).meta.xattrs.insert(b"user.a"[..].into(), b"1"[..].into());
    disk.put_link(b"1/points/index", file).unwrap();
    for (root, uid) in [(RootMeta::OfTree, 0), (RootMeta::OfLayer, 7)] {
        let mut found = tree(&["a/x=1", "gone=1", "kept=1"]);
        apply(&mut found, &disk, top, root).unwrap();
        let meta = &found.node(Tree::ROOT).meta;
        assert_eq!((meta.uid, meta.xattrs.len()), (uid, 0));
        let file = found.node(found.find(b"a/b").unwrap());
        assert_eq!((file.names, &file.meta), (1, &xattr("user.a", "1")));
        assert_eq!(found.node(found.find(b"a").unwrap()).meta.xattrs.len(), 0);
        assert!(found.find(b"gone").is_none() && found.find(b"a/x").is_none());
        assert!(found.find(b"kept").is_some() && found.find(b"upper").is_none());
    }
    // The root of a layer may be opaque, too.
    let mut found = tree(&["old=1"]);
    let mut layer = tree(&["new=1"]);
    layer.node_mut(Tree::ROOT).meta = xattr("trusted.overlay.opaque", "y");
    apply(&mut found, &layer, Tree::ROOT, RootMeta::OfTree).unwrap();
    assert_eq!(changes(&tree(&["new=1"]), &found), [""; 0]);
}

#[test]
fn layers_that_cannot_be_stated_are_refused() {
    let incomplete = |name: &str, kind| {
        let mut layer = tree(&["d/"]);
        layer.put(b"d/x", xattr(name, ""), kind).unwrap();
        apply(&mut tree(&[]), &layer, Tree::ROOT, RootMeta::OfTree)
    };
    for (result, words) in [
        (incomplete("trusted.overlay.metacopy", content("")), ["/d/x", "metacopy=off"]),
        (incomplete("trusted.overlay.redirect", directory()), ["/d/x", "redirect_dir=off"]),
    ] {
        let text = format!("{:#}", result.unwrap_err());
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    let file = tree(&["a=1"]);
    let at = file.find(b"a").unwrap();
    assert!(apply(&mut tree(&[]), &file, at, RootMeta::OfTree).is_err());

    let own = |meta: Meta| {
        let mut after = tree(&["d/a=1"]);
        let at = after.find(b"d").unwrap();
        after.node_mut(at).meta = meta;
        after
    };
    let marked = own(xattr("trusted.overlay.opaque", "y"));
    for (name, before, after, is_fine) in [
        ("a device 0:0", tree(&[]), tree(&["d/a!"]), false),
        ("an old device 0:0", tree(&["d/a!"]), tree(&["d/a!", "d/b=1"]), true),
        ("an attribute", tree(&["d/a=1"]), marked.clone(), false),
        (
            "an attribute above a change",
            own(xattr("trusted.overlay.opaque", "y")),
            {
                let mut after = marked.clone();
                after.put(b"d/b", Meta::default(), Kind::Fifo).unwrap();
                after
            },
            false,
        ),
        ("an old attribute", marked.clone(), marked, true),
    ] {
        assert_eq!(difference(&before, &after).is_ok(), is_fine, "{name}");
    }
}

/// Contents that fail a test that reads them.
#[derive(Debug)]
struct Unread;

impl Stored for Unread {
    fn size(&self) -> u64 {
        5
    }

    fn open(&self) -> Result<Box<dyn crate::tree::Reader + '_>> {
        bail!("it was read")
    }
}

#[test]
fn contents_in_the_same_place_are_not_read() {
    let stored: Arc<dyn Stored> = Arc::new(Unread);
    let mut before = tree(&["a=1"]);
    let kind = Kind::File(Content::Stored(Arc::clone(&stored)));
    let id = before.put(b"stored", Meta::default(), kind).unwrap();
    let mut after = before.clone();
    after.put(b"b", Meta::default(), Kind::Fifo).unwrap();
    let layer = difference(&before, &after).unwrap();
    assert_eq!(layer.children(Tree::ROOT).unwrap().len(), 1);
    after.node_mut(id).kind = Kind::File(Content::Stored(Arc::new(Unread)));
    let error = difference(&before, &after).unwrap_err();
    assert_eq!(format!("{error:#}"), "stored: it was read");
}

/// Layers arrive by disks: those that we write for the lower layers of a machine, and those
/// that a machine leaves on its own disk.
#[test]
fn disks_keep_the_marks_of_layers() {
    let mut before = nasty();
    // The sample has a list that is none, which readers leave out, and one that is too large
    // for ext4.
    for meta in before.metas_mut() {
        meta.xattrs.remove(b"user.large");
        meta.xattrs.remove(crate::tree::posix_acl::ACCESS);
    }
    let mut after = before.clone();
    after.remove(Tree::ROOT, b"names");
    after.put(b"sizes", Meta { uid: 9, ..Meta::default() }, directory()).unwrap();
    for name in [&b"text-4000"[..], b"noise-1", b"mixed"] {
        after.remove(after.find(b"sizes").unwrap(), name);
    }
    after.put(b"kinds/fifo", Meta::default(), content("now a file")).unwrap();
    after.put(b"new/dir/file", Meta::default(), content("new")).unwrap();
    let mut layer = difference(&before, &after).unwrap();
    let meta = xattr("trusted.overlay.opaque", "y");
    layer.put(b"many-gone", meta, directory()).unwrap();
    before.put(b"many-gone/a/b", Meta::default(), Kind::Fifo).unwrap();
    let gone = Meta { permissions: 0o755, ..Meta::default() };
    after.put(b"many-gone", gone, directory()).unwrap();
    for format in [Format::Erofs, Format::Ext4] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = DiskOptions { threads: 1, ..DiskOptions::default() };
        let (notes, progress) = (&mut Notes::default(), Progress::hidden());
        disk::write(&layer, format, &options, file.as_file(), notes, &progress).unwrap();
        let read = source::open(file.path(), &ReadOptions::default(), notes).unwrap().tree;
        let mut found = before.clone();
        apply(&mut found, &read, Tree::ROOT, RootMeta::OfLayer).unwrap();
        assert_eq!(changes(&after, &found), [""; 0], "{format:?}");
        assert_eq!(notes.lines().count(), 0, "{format:?}");
    }
}

/// Changes a tree at random: each number selects a change and the paths that it is about.
fn changed(mut tree: Tree, changes: &[(u8, u8, u8, u8)]) -> Tree {
    let path = |number: u8| {
        let letters = [b'a' + number % 3, b'a' + number / 3 % 3, b'a' + number / 9 % 3];
        let depth = usize::from(number / 27 % 3) + 1;
        letters[..depth].iter().map(|letter| vec![*letter]).collect::<Vec<_>>().join(&b'/')
    };
    for &(what, first, second, value) in changes {
        let (at, other) = (path(first), path(second));
        let meta = Meta {
            permissions: [0o644, 0o755, 0o4755][usize::from(value) % 3],
            uid: u32::from(value / 3 % 2),
            mtime: i64::from(value / 6 % 3),
            ..Meta::default()
        };
        let text = ["", "1", "2", "22"][usize::from(value) % 4];
        // Changes that make no sense, such as a file below a file, change nothing.
        match what % 8 {
            0 | 1 => drop(tree.put(&at, meta, content(text))),
            2 => drop(tree.put(&at, meta, directory())),
            3 => drop(tree.put(&at, meta, Kind::Symlink(other.as_slice().into()))),
            4 | 5 => {
                if let Some(id) = tree.find(&other).filter(|id| tree.children(*id).is_none()) {
                    drop(tree.put_link(&at, id));
                }
            }
            6 => {
                let (above, name) = at.split_at(at.len() - 1);
                if let Some(parent) = tree.find(above) {
                    tree.remove(parent, name);
                }
            }
            _ => {
                if let Some(id) = tree.find(&at) {
                    tree.node_mut(id).meta = meta;
                }
            }
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_difference_makes_one_tree_of_the_other(
        old in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..40),
        new in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..12),
    ) {
        let before = changed(Tree::new(Meta::default()), &old);
        // A change of the tree, and a tree of its own.
        for after in [changed(before.clone(), &new), changed(Tree::new(Meta::default()), &new)] {
            let layer = difference(&before, &after).unwrap();
            let mut found = before.clone();
            apply(&mut found, &layer, Tree::ROOT, RootMeta::OfLayer).unwrap();
            prop_assert_eq!(changes(&after, &found), Vec::<String>::new());
            prop_assert_eq!(difference(&found, &after).unwrap().len(), 1);
        }
    }
}
