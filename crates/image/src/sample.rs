//! Sample trees, and helpers for the tests of all formats.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use tempfile::NamedTempFile;
pub(super) use virtinitrd_vm_tests::{has, skip, tool as command};

use crate::tree::holes::for_parts;
use crate::tree::{Content, Id, Kind, Meta, Tree, Xattrs, directory, mode};

pub(super) fn contents(content: &Content) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.open()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One line for each name of a tree: the node's metadata, the hash of its contents, and the
/// first name of the same node.
pub(super) fn listing(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let (mut lines, mut first) = (Vec::new(), BTreeMap::new());
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let what = match &node.kind {
            Kind::File(content) => {
                let bytes = contents(content)?;
                format!("{} bytes {}", bytes.len(), blake3::hash(&bytes))
            }
            Kind::Directory(children) => format!("{} names", children.len()),
            other => format!("{other:?}"),
        };
        let same = first.entry(id).or_insert_with(|| path.to_vec()).escape_ascii().to_string();
        let (mode, path) = (mode(node), path.escape_ascii());
        lines.push(format!("{path} {mode:o} {} {same} {:?} {what}", node.names, node.meta));
        Ok(())
    })?;
    Ok(lines)
}

/// Reads a damaged image and all of its contents. Errors are fine, but the reading must
/// end: a file may not be larger than the image has room for, except for holes.
pub(super) fn read_all(image: &[u8], read: fn(Arc<File>) -> anyhow::Result<Tree>) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(image).unwrap();
    if let Ok(tree) = read(Arc::new(file)) {
        read_contents(&tree);
    }
}

/// Reads all contents of a tree; errors are fine.
pub(super) fn read_contents(tree: &Tree) {
    let visited = tree.walk(&mut |_, id| {
        if let Kind::File(content) = &tree.node(id).kind {
            // Contents of a damaged image may be unreadable.
            let _: anyhow::Result<()> = for_parts(content, &mut |_| Ok(()));
        }
        Ok(())
    });
    assert!(visited.is_ok());
}

pub(super) fn bytes_of(file: &NamedTempFile) -> Vec<u8> {
    std::fs::read(file.path()).unwrap()
}

pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn text(length: usize) -> Vec<u8> {
    let words = (0_u32..).flat_map(|i| format!("{} {}\n", i % 977, i.wrapping_mul(i)).into_bytes());
    words.take(length).collect()
}

pub(super) fn add(tree: &mut Tree, parent: Id, name: &[u8], kind: Kind) -> Id {
    let meta = Meta { permissions: 0o4751, uid: 1, gid: 2, mtime: 7, ..Meta::default() };
    tree.add(parent, name, meta, kind).unwrap()
}

pub(super) fn file(bytes: Vec<u8>) -> Kind {
    Kind::File(Content::Bytes(bytes.into()))
}

/// A tree with all kinds of files, sizes, names and attributes that have caused errors in
/// some file system.
pub(super) fn nasty() -> Tree {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let sizes = [0, 1, 4000, 4096, 4097, 8192, 70_000, (1 << 20) - 1, 1 << 20, (2 << 20) + 4097];
    let sizes_dir = add(&mut tree, Tree::ROOT, b"sizes", directory());
    for size in sizes {
        for (kind, bytes) in [("text", text(size)), ("noise", noise(size)), ("one", vec![1; size])]
        {
            add(&mut tree, sizes_dir, format!("{kind}-{size}").as_bytes(), file(bytes));
        }
    }
    // Compressible and incompressible parts by turns.
    let mixed = [text(1 << 20), noise(1 << 20), text(5000), noise(9000), text(1 << 20)].concat();
    add(&mut tree, sizes_dir, b"mixed", file(mixed.clone()));
    add(&mut tree, sizes_dir, b"mixed-tail", file(mixed[1 << 20..(2 << 20) + 100].to_vec()));
    let mut sparse = vec![0; (5 << 20) + 123];
    sparse[3 << 20..(3 << 20) + 9000].copy_from_slice(&noise(9000));
    add(&mut tree, sizes_dir, b"sparse", file(sparse.clone()));
    *sparse.last_mut().unwrap() = 1;
    add(&mut tree, sizes_dir, b"sparse-tail", file(sparse));

    let names = add(&mut tree, Tree::ROOT, b"names", directory());
    for name in [&b"!before-dot"[..], b"\xff\xfe not utf-8", b"new\nline", &[b'x'; 255], b"..."] {
        add(&mut tree, names, name, file(name.to_vec()));
    }
    let many = add(&mut tree, names, b"many", directory());
    for number in 0..3000 {
        add(&mut tree, many, format!("{number:0100}").as_bytes(), Kind::Fifo);
    }
    let mut deep = names;
    for _ in 0..100 {
        deep = add(&mut tree, deep, b"deep", directory());
    }

    let kinds = add(&mut tree, Tree::ROOT, b"kinds", directory());
    add(&mut tree, kinds, b"short", Kind::Symlink(b"../\xff".as_slice().into()));
    add(&mut tree, kinds, b"long", Kind::Symlink(vec![b'l'; 4095].into()));
    add(&mut tree, kinds, b"char", Kind::CharDevice(4095, 0xf_ffff));
    add(&mut tree, kinds, b"block", Kind::BlockDevice(259, 300));
    add(&mut tree, kinds, b"fifo", Kind::Fifo);
    add(&mut tree, kinds, b"socket", Kind::Socket);
    let linked = add(&mut tree, kinds, b"linked", file(text(100)));
    tree.link(names, b"linked-too", linked).unwrap();
    tree.link(Tree::ROOT, b"and-again", linked).unwrap();

    let owner = add(&mut tree, kinds, b"owner", file(text(9000)));
    let meta = &mut tree.node_mut(owner).meta;
    (meta.uid, meta.gid, meta.mtime) = (70_000, u32::MAX, -5);
    let xattrs: [(&[u8], Vec<u8>); 5] = [
        (b"security.capability", vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (b"system.posix_acl_access", [&[2, 0, 0, 0][..], &[1; 24]].concat()),
        (b"trusted.empty", Vec::new()),
        (b"user.large", noise(9000)),
        (b"user.x", b"value".to_vec()),
    ];
    let xattrs: Xattrs = xattrs.map(|(name, value)| (name.into(), value.into())).into();
    for name in
        [&b"sizes/text-4000"[..], b"sizes/text-70000", b"sizes/sparse", b"kinds", b"kinds/short"]
    {
        let id = tree.find(name).unwrap();
        tree.node_mut(id).meta.xattrs = xattrs.clone();
    }
    tree
}
