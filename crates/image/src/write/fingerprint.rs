//! UUIDs for images that other programs write.
//!
//! Our own writers hash the bytes of an image on their way to the file
//! (`disk_parts::identity`). A program such as mkfs.xfs wants the UUID before it writes
//! anything, so here the UUID follows from the tree: names, metadata, contents and hard links.

use std::collections::HashMap;

use anyhow::{Context, Result};

use crate::disk_parts::identity::marked;
use crate::tree::holes::{self, Part};
use crate::tree::{Id, Kind, Node, Tree, mode, show};

/// The UUID of an image of `tree` that is made with the options `salt`: equal for equal trees
/// and equal options, whatever the order of the source was (version 8 of RFC 9562).
///
/// # Errors
/// Contents that cannot be read.
pub fn uuid_of(tree: &Tree, salt: &[&[u8]]) -> Result<[u8; 16]> {
    let mut hasher = blake3::Hasher::new();
    for part in salt {
        word(&mut hasher, part);
    }
    let mut linked: HashMap<Id, u64> = HashMap::new();
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        word(&mut hasher, path);
        if node.names > 1 && !matches!(node.kind, Kind::Directory(_)) {
            let next = linked.len() as u64;
            if let Some(first) = linked.get(&id) {
                number(&mut hasher, *first);
                return Ok(());
            }
            linked.insert(id, next);
        }
        metadata(&mut hasher, node);
        contents(&mut hasher, node).with_context(|| show(path))
    })?;
    let mut uuid = [0; 16];
    hasher.finalize_xof().fill(&mut uuid);
    Ok(marked(uuid))
}

fn number(hasher: &mut blake3::Hasher, number: u64) {
    hasher.update(&number.to_le_bytes());
}

/// Hashes bytes after their number, so that two words never look like one.
fn word(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    number(hasher, bytes.len() as u64);
    hasher.update(bytes);
}

fn metadata(hasher: &mut blake3::Hasher, node: &Node) {
    let meta = &node.meta;
    for value in [mode(node), meta.uid, meta.gid, meta.nanoseconds] {
        number(hasher, value.into());
    }
    hasher.update(&meta.mtime.to_le_bytes());
    number(hasher, meta.xattrs.len() as u64);
    for (key, value) in &meta.xattrs {
        word(hasher, key);
        word(hasher, value);
    }
}

/// Hashes what the kind of a node adds to its metadata. A hole counts as zeros.
fn contents(hasher: &mut blake3::Hasher, node: &Node) -> Result<()> {
    /// Zeros in place of a part of a hole.
    const ZEROS: [u8; 4096] = [0; 4096];
    match &node.kind {
        Kind::File(content) => {
            number(hasher, content.size());
            holes::for_parts(content, &mut |part| {
                match part {
                    Part::Data(bytes) => {
                        hasher.update(bytes);
                    }
                    Part::Hole(mut left) => {
                        while left > 0 {
                            let count = left.min(ZEROS.len() as u64);
                            hasher.update(&ZEROS[..usize::try_from(count)?]);
                            left -= count;
                        }
                    }
                }
                Ok(())
            })?;
        }
        Kind::Symlink(target) => word(hasher, target),
        &Kind::CharDevice(major, minor) | &Kind::BlockDevice(major, minor) => {
            number(hasher, major.into());
            number(hasher, minor.into());
        }
        Kind::Directory(_) | Kind::Fifo | Kind::Socket => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, Meta};

    fn tree(names: &[&str], edit: impl Fn(&mut Meta), bytes: &[u8]) -> Tree {
        let mut tree = Tree::new(Meta::default());
        let mut meta = Meta { permissions: 0o644, ..Meta::default() };
        edit(&mut meta);
        let mut first = None;
        for name in names {
            let kind = Kind::File(Content::Bytes(bytes.into()));
            match first {
                None => {
                    let added = tree.add(Tree::ROOT, name.as_bytes(), meta.clone(), kind);
                    first = Some(added.unwrap());
                }
                Some(id) => tree.link(Tree::ROOT, name.as_bytes(), id).unwrap(),
            }
        }
        tree
    }

    #[test]
    fn the_uuid_changes_with_everything_but_the_order() {
        let same = |_: &mut Meta| {};
        let of = |tree: &Tree| uuid_of(tree, &[]).unwrap();
        let base = tree(&["a", "b"], same, b"x");
        assert_eq!(of(&base), of(&tree(&["b", "a"], same, b"x")));
        assert_eq!(of(&base)[6] >> 4, 8);
        let others = [
            ("name", tree(&["a", "c"], same, b"x")),
            ("link", tree(&["a"], same, b"x")),
            ("contents", tree(&["a", "b"], same, b"y")),
            ("owner", tree(&["a", "b"], |meta| meta.uid = 1, b"x")),
            ("mode", tree(&["a", "b"], |meta| meta.permissions = 0o600, b"x")),
            ("time", tree(&["a", "b"], |meta| meta.mtime = 1, b"x")),
            (
                "attribute",
                tree(
                    &["a", "b"],
                    |meta| {
                        meta.xattrs.insert(b"user.a"[..].into(), b"1"[..].into());
                    },
                    b"x",
                ),
            ),
        ];
        for (name, other) in &others {
            assert_ne!(of(&base), of(other), "{name}");
        }
        assert_ne!(of(&base), uuid_of(&base, &[b"label"]).unwrap());
        let copies = {
            let mut copies = tree(&["a"], same, b"x");
            let kind = Kind::File(Content::Bytes(b"x"[..].into()));
            let meta = Meta { permissions: 0o644, ..Meta::default() };
            copies.add(Tree::ROOT, b"b", meta, kind).unwrap();
            copies
        };
        assert_ne!(of(&base), of(&copies), "two files are not one with two names");
    }
}
