//! UUIDs of images without a given UUID: they follow from everything in the image.

use std::collections::BTreeSet;

use proto::superblock;

use super::*;
use crate::tree::Node;

/// A change of the sample tree.
type SampleChange<'a> = &'a dyn Fn(&mut Tree);

/// A tree with one example of each property that may differ, then changed by `change`.
fn sample(change: SampleChange) -> Tree {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let meta = || Meta { permissions: 0o644, mtime: 5, ..Meta::default() };
    let file = |text: &str| Kind::File(Content::Bytes(text.as_bytes().into()));
    let id = tree.put(b"file", meta(), file("contents")).unwrap();
    tree.node_mut(id).meta.xattrs.insert(b"user.a"[..].into(), b"1"[..].into());
    tree.put_link(b"same", id).unwrap();
    tree.put(b"other", meta(), file("contents")).unwrap();
    let large = "0123456789abcdef".repeat(100_000);
    tree.put(b"large", meta(), file(&large)).unwrap();
    tree.put(b"link", meta(), Kind::Symlink(b"target"[..].into())).unwrap();
    tree.put(b"device", meta(), Kind::CharDevice(1, 3)).unwrap();
    change(&mut tree);
    tree
}

fn node<'a>(tree: &'a mut Tree, name: &str) -> &'a mut Node {
    let id = tree.find(name.as_bytes()).unwrap();
    tree.node_mut(id)
}

fn uuid(tree: &Tree, format: Format, options: DiskOptions) -> [u8; 16] {
    let bytes = disk_bytes(tree, format, options);
    superblock::identify(&bytes[..superblock::HEAD.min(bytes.len())]).unwrap().uuid.unwrap()
}

#[test]
fn every_difference_changes_the_uuid() {
    let changes: [(&str, SampleChange); 10] = [
        ("nothing", &|_| ()),
        ("owner", &|tree| node(tree, "file").meta.uid = 7),
        ("group", &|tree| node(tree, "file").meta.gid = 7),
        ("target", &|tree| node(tree, "link").kind = Kind::Symlink(b"tarjet"[..].into())),
        ("device", &|tree| node(tree, "device").kind = Kind::CharDevice(1, 5)),
        ("attribute", &|tree| {
            node(tree, "file").meta.xattrs.insert(b"user.a"[..].into(), b"2"[..].into());
        }),
        ("contents", &|tree| {
            node(tree, "other").kind = Kind::File(Content::Bytes(b"contentz"[..].into()));
        }),
        ("contents of a large file", &|tree| {
            let large = "0123456789abcdef".repeat(99_999) + "0123456789abcdeF";
            node(tree, "large").kind = Kind::File(Content::Bytes(large.into_bytes().into()));
        }),
        ("hard link", &|tree| {
            let id = tree.find(b"other").unwrap();
            tree.put_link(b"same", id).unwrap();
        }),
        ("time", &|tree| node(tree, "file").meta.mtime = 6),
    ];
    for format in [Format::Erofs, Format::Ext4] {
        let mut seen = BTreeSet::new();
        for (name, change) in changes {
            let found = uuid(&sample(change), format, DiskOptions::default());
            assert!(seen.insert(found), "{format}: {name}");
            assert_eq!((found[6] >> 4, found[8] >> 6), (8, 2), "{format}: {name}");
        }
        let again = uuid(&sample(&|_| ()), format, DiskOptions::default());
        assert!(seen.contains(&again), "{format}");
        let given = DiskOptions { uuid: Some([9; 16]), ..DiskOptions::default() };
        assert_eq!(uuid(&sample(&|_| ()), format, given), [9; 16]);
    }
}

/// The check sums of an ext4 depend on its UUID, which is known last.
#[test]
fn e2fsck_accepts_an_image_with_a_calculated_uuid() {
    if !has("e2fsck") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, size) in [("small", None), ("with a journal", Some(64 << 20))] {
        let path = dir.path().join(name);
        let options = DiskOptions { size, ..DiskOptions::default() };
        write_disk(&sample(&|_| ()), Format::Ext4, options, &path);
        let output = command("e2fsck").arg("-fn").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {said}");
    }
}
