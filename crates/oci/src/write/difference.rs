//! The layer between a base and a tree, in the form of an OCI image.
//!
//! Format: OCI image specification, `layer.md`: an empty file `.wh.NAME` says that a name is gone.

use anyhow::{Result, ensure};
use image::edit::difference::{LayerForm, difference as layer_between};
use image::tree::{Content, Kind, Tree, show};

/// Beginning of the name of a file that says that a name is gone.
const WHITEOUT: &[u8] = b".wh.";

/// Layers of OCI images. [`check_names`] has refused all files that have another meaning there.
const FORM: LayerForm = LayerForm { mark: whiteout, check: |_| Ok(()) };

fn whiteout(name: &[u8]) -> (Vec<u8>, Kind) {
    ([WHITEOUT, name].concat(), Kind::File(Content::Bytes([].into())))
}

/// The layer that turns the tree `base` into `tree`, in the form of an OCI layer; `None` if they
/// are equal. The root of the layer has the attributes of the root of `tree`.
///
/// # Errors
/// A file of `tree` whose name a layer reserves for its own use; contents that cannot be read.
pub fn layer(base: &Tree, tree: &Tree) -> Result<Option<Tree>> {
    check_names(tree)?;
    let layer = layer_between(base, tree, FORM)?;
    let is_same_root = base.node(Tree::ROOT).meta == tree.node(Tree::ROOT).meta;
    Ok((layer.len() > 1 || !is_same_root).then_some(layer))
}

/// Checks that no name of `tree` is one that a layer reserves for its own use.
pub(super) fn check_names(tree: &Tree) -> Result<()> {
    tree.walk(&mut |path, _| {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        ensure!(!name.starts_with(WHITEOUT), "{}: a layer reserves names with .wh.", show(path));
        Ok(())
    })
}
