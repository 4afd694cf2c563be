//! The difference between two trees as a layer.
//!
//! Format: OCI image specification, `layer.md`: a layer has the files that are new or changed,
//! with all their names, and an empty file `.wh.NAME` for each name that is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image::tree::holes::are_equal;
use image::tree::{Content, Id, Kind, Meta, Node, Tree, directory, show};

/// Beginning of the name of a file that says that a name is gone.
const WHITEOUT: &[u8] = b".wh.";

/// The layer that turns the tree `base` into `tree`; `None` if they are equal.
///
/// # Errors
/// A file whose name a layer reserves for its own use; contents that cannot be read.
pub(super) fn difference(base: &Tree, tree: &Tree) -> Result<Option<Tree>> {
    let layer = Tree::new(tree.node(Tree::ROOT).meta.clone());
    let links = changed_links(base, tree)?;
    let mut difference = Difference { base, tree, layer, links, copies: HashMap::new() };
    difference.directory(&mut Vec::new(), Tree::ROOT, Tree::ROOT)?;
    let is_same_root = base.node(Tree::ROOT).meta == tree.node(Tree::ROOT).meta;
    let layer = difference.layer;
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
                    let mark = [WHITEOUT, name].concat();
                    let empty = Kind::File(Content::Bytes(Arc::from(&b""[..])));
                    let meta = Meta { mtime: tree.node(new).meta.mtime, ..Meta::default() };
                    self.layer.add(parent, &mark, meta, empty)?;
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
        let Node { meta, kind, names } = self.tree.node(id);
        let kind = match kind {
            Kind::Directory(_) => directory(),
            kind => kind.clone(),
        };
        let copy = self.layer.add(parent, name, meta.clone(), kind)?;
        if *names > 1 {
            self.copies.insert(id, copy);
        }
        Ok(())
    }

    /// The directory above `path` in the layer, with the attributes that it has in the tree.
    fn parent(&mut self, path: &[u8]) -> Result<Id> {
        let mut names: Vec<_> = path.split(|&byte| byte == b'/').collect();
        names.pop();
        let (mut at, mut source) = (Tree::ROOT, Tree::ROOT);
        for name in names {
            source = self.tree.child(source, name).context("a path without a parent")?;
            at = match self.layer.child(at, name) {
                Some(found) => found,
                None => {
                    let meta = self.tree.node(source).meta.clone();
                    self.layer.add(at, name, meta, directory())?
                }
            };
        }
        Ok(at)
    }
}

/// Compares contents. Those that are in the same place need not be read.
fn is_same_content(old: &Content, new: &Content) -> Result<bool> {
    if let (
        Content::Part { archive: a, offset: at, size },
        Content::Part { archive: b, offset, size: length },
    ) = (old, new)
        && Arc::ptr_eq(a, b)
        && (at, size) == (offset, length)
    {
        return Ok(true);
    }
    Ok(old.size() == new.size() && are_equal(old, new)?)
}
