//! The difference between two trees as a layer.
//!
//! A layer has the files that are new or changed, with all their names, the directories above
//! them, and a mark for each name that is gone. The marks differ between the forms of layers:
//! that of an overlay is in [`overlay`](super::overlay), that of OCI images in the crate `oci`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::tree::holes::are_equal;
use crate::tree::{Content, Id, Kind, Meta, Node, Tree, directory, show};

/// Form of a layer.
#[derive(Clone, Copy, Debug)]
pub struct LayerForm {
    /// Returns name and kind of the mark that says that a name is gone.
    pub mark: fn(name: &[u8]) -> (Vec<u8>, Kind),
    /// Refuses a file that has another meaning in a layer of this form.
    pub check: fn(&Node) -> Result<()>,
}

/// The layer that turns the tree `base` into `tree`. Its root has the metadata of the root of
/// `tree`. Contents that both trees refer to in the same place are not read.
///
/// # Errors
/// A new or changed file that has another meaning in a layer of this form; contents that cannot
/// be read.
pub fn difference(base: &Tree, tree: &Tree, form: LayerForm) -> Result<Tree> {
    let root = tree.node(Tree::ROOT);
    (form.check)(root).context("/")?;
    let layer = Tree::new(root.meta.clone());
    let links = changed_links(base, tree)?;
    let mut difference = Difference { base, tree, form, layer, links, copies: HashMap::new() };
    difference.directory(&mut Vec::new(), Tree::ROOT, Tree::ROOT)?;
    Ok(difference.layer)
}

/// The files of `tree` with several names whose names are not those that they have in `base`.
fn changed_links(base: &Tree, tree: &Tree) -> Result<BTreeSet<Vec<u8>>> {
    let groups = |tree: &Tree| -> Result<BTreeSet<Vec<Vec<u8>>>> {
        let mut groups: BTreeMap<Id, Vec<Vec<u8>>> = BTreeMap::new();
        tree.walk(&mut |path, id| {
            if tree.node(id).names > 1 {
                groups.entry(id).or_default().push(path.to_vec());
            }
            Ok(())
        })?;
        Ok(groups.into_values().collect())
    };
    let (old, new) = (groups(base)?, groups(tree)?);
    // A file that was one of several names and now is alone has changed, too.
    let changed = old.symmetric_difference(&new).flatten().cloned();
    Ok(changed.collect())
}

struct Difference<'a> {
    base: &'a Tree,
    tree: &'a Tree,
    form: LayerForm,
    layer: Tree,
    /// Paths of files whose hard links have changed.
    links: BTreeSet<Vec<u8>>,
    /// Nodes of `tree` that the layer has already, for their further names.
    copies: HashMap<Id, Id>,
}

impl Difference<'_> {
    /// Adds what differs between two directories at `path`.
    fn directory(&mut self, path: &mut Vec<u8>, old: Id, new: Id) -> Result<()> {
        let (base, tree) = (self.base, self.tree);
        let (Some(olds), Some(news)) = (base.children(old), tree.children(new)) else {
            return Ok(());
        };
        for name in olds.keys().chain(news.keys()).collect::<BTreeSet<_>>() {
            let length = path.len();
            path.extend_from_slice(if length > 0 { b"/" } else { b"" });
            path.extend_from_slice(name);
            match (olds.get(name), news.get(name)) {
                (Some(_), None) => {
                    let parent = self.parent(path)?;
                    let (mark, kind) = (self.form.mark)(name);
                    let meta = Meta { mtime: tree.node(new).meta.mtime, ..Meta::default() };
                    self.layer.add(parent, &mark, meta, kind).with_context(|| show(path))?;
                }
                (Some(&old), Some(&new)) if self.is_same(path, old, new)? => {
                    self.directory(path, old, new)?;
                }
                (Some(&old), Some(&new))
                    if base.children(old).is_some() && tree.children(new).is_some() =>
                {
                    self.copy(path, new)?;
                    self.directory(path, old, new)?;
                }
                (_, Some(&new)) => self.copy_all(path, new)?,
                (None, None) => {}
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Whether two nodes at `path` are the same, apart from the children of directories.
    fn is_same(&self, path: &[u8], old: Id, new: Id) -> Result<bool> {
        let (old, new) = (self.base.node(old), self.tree.node(new));
        if self.links.contains(path) || old.meta != new.meta {
            return Ok(false);
        }
        Ok(match (&old.kind, &new.kind) {
            (Kind::Directory(_), Kind::Directory(_))
            | (Kind::Fifo, Kind::Fifo)
            | (Kind::Socket, Kind::Socket) => true,
            (Kind::Symlink(old), Kind::Symlink(new)) => old == new,
            (Kind::CharDevice(a, b), Kind::CharDevice(c, d))
            | (Kind::BlockDevice(a, b), Kind::BlockDevice(c, d)) => (a, b) == (c, d),
            (Kind::File(old), Kind::File(new)) => {
                is_same_content(old, new).with_context(|| show(path))?
            }
            _ => false,
        })
    }

    /// Adds the node at `path` and everything below it.
    fn copy_all(&mut self, path: &mut Vec<u8>, id: Id) -> Result<()> {
        self.copy(path, id)?;
        for (name, &child) in self.tree.children(id).into_iter().flatten() {
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            self.copy_all(path, child)?;
            path.truncate(length);
        }
        Ok(())
    }

    /// Adds the node at `path` without children.
    fn copy(&mut self, path: &[u8], id: Id) -> Result<()> {
        let parent = self.parent(path)?;
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if let Some(&copy) = self.copies.get(&id) {
            return self.layer.link(parent, name, copy);
        }
        let kind = match &self.tree.node(id).kind {
            Kind::Directory(_) => directory(),
            kind => kind.clone(),
        };
        let copy = self.add(path, parent, id, kind)?;
        if self.tree.node(id).names > 1 {
            self.copies.insert(id, copy);
        }
        Ok(())
    }

    /// The directory above `path` in the layer, with the attributes that it has in the tree.
    fn parent(&mut self, path: &[u8]) -> Result<Id> {
        let (mut at, mut source) = (Tree::ROOT, Tree::ROOT);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let mut start = 0;
        for end in ends {
            let name = path.get(start..end).unwrap_or_default();
            source = self.tree.child(source, name).context("a path without a parent")?;
            at = match self.layer.child(at, name) {
                Some(found) => found,
                None => self.add(path.get(..end).unwrap_or_default(), at, source, directory())?,
            };
            start = end + 1;
        }
        Ok(at)
    }

    /// Adds a node at `path` with the metadata of node `id` of the tree.
    fn add(&mut self, path: &[u8], parent: Id, id: Id, kind: Kind) -> Result<Id> {
        let node = self.tree.node(id);
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let checked = (self.form.check)(node);
        let added = checked.and_then(|()| self.layer.add(parent, name, node.meta.clone(), kind));
        added.with_context(|| show(path))
    }
}

/// Compares contents. Those that are in the same place need not be read.
fn is_same_content(old: &Content, new: &Content) -> Result<bool> {
    let is_same_place = match (old, new) {
        (Content::Bytes(old), Content::Bytes(new)) => Arc::ptr_eq(old, new),
        (
            Content::Host { directory: a, name: ours, .. },
            Content::Host { directory: b, name: theirs, .. },
        ) => Arc::ptr_eq(a, b) && ours == theirs,
        (
            Content::Part { archive: a, offset: ours, .. },
            Content::Part { archive: b, offset: theirs, .. },
        ) => Arc::ptr_eq(a, b) && ours == theirs,
        (Content::Stored(old), Content::Stored(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    Ok(old.size() == new.size() && (is_same_place || are_equal(old, new)?))
}
