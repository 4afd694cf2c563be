//! Layers in the form of an overlay's upper directory: applied to a tree, and made of two trees.
//!
//! Format: kernel document `filesystems/overlayfs`. A character device 0:0 (a whiteout) says
//! that the name is gone; a directory with the attribute `trusted.overlay.opaque` = `y` hides
//! all that the directory had below. The kernel keeps further attributes `trusted.overlay.*` for
//! itself; they are no part of the files.
//!
//! Invariants: a layer can state everything but a whiteout and an attribute of the kernel as
//! files of their own. The work of [`apply()`] grows with the layer, not with the tree.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::difference::{self, LayerForm};
use crate::tree::{Id, Kind, Meta, Node, Tree, directory};

/// Beginning of the attributes that the kernel keeps for itself (`OVL_XATTR_TRUSTED_PREFIX`,
/// `fs/overlayfs/overlayfs.h`).
const OWN: &[u8] = b"trusted.overlay.";
/// Attribute of a directory that hides what is below it (`OVL_XATTR_OPAQUE`).
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Value of [`OPAQUE`] that hides all names.
const OPAQUE_ALL: &[u8] = b"y";
/// Device numbers of a whiteout (`WHITEOUT_DEV`, `include/linux/fs.h`).
const WHITEOUT: (u32, u32) = (0, 0);

/// Attributes by which a file of the layer is incomplete without the layers below, and the
/// option of the mount that avoids them (`OVL_XATTR_REDIRECT`, `OVL_XATTR_METACOPY`).
const INCOMPLETE: [(&[u8], &str); 2] = [
    (b"trusted.overlay.redirect", "redirect_dir=off"),
    (b"trusted.overlay.metacopy", "metacopy=off"),
];

/// Layers of overlays.
const FORM: LayerForm = LayerForm { mark: whiteout, check: check_is_plain };

/// Which metadata the root of the tree has after [`apply()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootMeta {
    /// Those that it had.
    OfTree,
    /// Those of the root of the layer.
    OfLayer,
}

/// Applies a layer to `tree`: the directory `at` of the tree `layer`, which is the upper
/// directory of an overlay. Contents stay where they are.
///
/// Names of the layer replace those of the tree. If both have a directory, its children are
/// merged, and it takes the metadata of the layer. Hard links within the layer stay hard links.
///
/// # Errors
/// `at` is no directory; a file that is incomplete without the layers below; those of
/// [`Tree::add`]. Then the tree is useless.
pub fn apply(tree: &mut Tree, layer: &Tree, at: Id, root: RootMeta) -> Result<()> {
    ensure!(layer.children(at).is_some(), "{} is no directory", layer.show_path_of(at));
    let top = layer.node(at);
    if is_opaque(top) {
        tree.remove_children(Tree::ROOT);
    }
    if root == RootMeta::OfLayer {
        tree.node_mut(Tree::ROOT).meta = meta_of(top);
    }
    // Files with several names, by their numbers in the layer.
    let mut added = HashMap::new();
    let mut pending = vec![(at, Tree::ROOT)];
    while let Some((from, to)) = pending.pop() {
        for (name, &id) in layer.children(from).into_iter().flatten() {
            let placed = place(tree, to, name, layer.node(id), added.get(&id).copied());
            let placed = placed.with_context(|| layer.show_path_of(id))?;
            let Some(new) = placed else { continue };
            if layer.children(id).is_some() {
                pending.push((id, new));
            } else if layer.node(id).names > 1 {
                added.insert(id, new);
            }
        }
    }
    Ok(())
}

/// Puts one node of a layer, without children, into the directory `parent` of the tree as
/// `name`. `known` is the number of the node in the tree if it has another name there. Returns
/// that number, or `None` for a whiteout.
fn place(
    tree: &mut Tree,
    parent: Id,
    name: &[u8],
    node: &Node,
    known: Option<Id>,
) -> Result<Option<Id>> {
    if is_whiteout(node) {
        tree.remove(parent, name);
        return Ok(None);
    }
    if let Some(known) = known {
        tree.link(parent, name, known)?;
        return Ok(Some(known));
    }
    for (attribute, option) in INCOMPLETE {
        if node.meta.xattrs.contains_key(attribute) {
            let shown = attribute.escape_ascii();
            bail!("{shown}: the layer has only a part of it; mount the overlay with {option}");
        }
    }
    let kind = match &node.kind {
        Kind::Directory(_) => directory(),
        kind => kind.clone(),
    };
    let new = tree.add(parent, name, meta_of(node), kind)?;
    if is_opaque(node) {
        tree.remove_children(new);
    }
    Ok(Some(new))
}

/// The layer that turns the tree `before` into `after`, for [`apply()`] with
/// [`RootMeta::OfLayer`]. Files with the same contents and metadata are no part of it.
///
/// # Errors
/// A new or changed file that has another meaning in a layer: a character device 0:0, or one
/// with an attribute `trusted.overlay.*`; contents that cannot be read.
pub fn difference(before: &Tree, after: &Tree) -> Result<Tree> {
    difference::difference(before, after, FORM)
}

fn whiteout(name: &[u8]) -> (Vec<u8>, Kind) {
    (name.to_vec(), Kind::CharDevice(WHITEOUT.0, WHITEOUT.1))
}

/// Refuses a file that a layer cannot state, because it has another meaning there.
fn check_is_plain(node: &Node) -> Result<()> {
    ensure!(
        !is_whiteout(node),
        "a character device 0:0 in a layer of an overlay means that the name is gone"
    );
    let own = node.meta.xattrs.keys().find(|name| name.starts_with(OWN));
    if let Some(name) = own {
        bail!("attribute {}: a layer of an overlay uses it for itself", name.escape_ascii());
    }
    Ok(())
}

fn is_whiteout(node: &Node) -> bool {
    matches!(node.kind, Kind::CharDevice(major, minor) if (major, minor) == WHITEOUT)
}

fn is_opaque(node: &Node) -> bool {
    matches!(node.kind, Kind::Directory(_))
        && node.meta.xattrs.get(OPAQUE).is_some_and(|value| **value == *OPAQUE_ALL)
}

/// The metadata of a node of a layer, without what the kernel keeps for itself.
fn meta_of(node: &Node) -> Meta {
    let mut meta = node.meta.clone();
    if meta.xattrs.keys().any(|name| name.starts_with(OWN)) {
        meta.xattrs.retain(|name, _| !name.starts_with(OWN));
    }
    meta
}

#[cfg(test)]
mod tests;
