//! A file system tree in memory: names and metadata, and references to the contents.
//!
//! Every image is written from such a tree, and every image can be read as one.
//!
//! | Module | Contents |
//! |---|---|
//! | `node` | [`Node`]: [`Kind`] and [`Meta`] of one file |
//! | `xattrs` | [`Xattrs`]: extended attributes, shared between files |
//! | [`posix_acl`] | access control lists as extended attributes |
//! | `pieces` | [`Reader`]: contents that are stored in several places, with holes |
//! | `memory` | the bound for the memory of a tree |
//! | `content` | [`Content`]: reference to the bytes of a regular file |
//! | [`holes`] | reads contents and keeps, skips or compares holes |
//! | `paths` | looks paths up as the kernel does, and adds nodes by path |
//! | [`root`] | a tree as a root file system for look-ups |
//!
//! Invariants:
//!
//! - Node 0 is the root, and it is a directory.
//! - A directory has one name; any other node has one or more names (hard links).
//! - A name has 1 to 255 bytes, contains neither `/` nor NUL, and is neither `.` nor `..`.
//! - Names of a directory are in byte order, so that equal trees are written as equal
//!   bytes, whatever the order of their source was.

mod content;
pub mod holes;
mod memory;
mod node;
mod paths;
pub(crate) mod pieces;
pub mod posix_acl;
pub mod root;
mod xattrs;

use anyhow::{Context, Result, bail, ensure};

use self::memory::Memory;
pub use content::{Content, HostDirectory, Stored, file_length};
pub use files::tell::show;
pub use memory::MEMORY_MAX;
pub use node::{
    Children, Id, Kind, Meta, NAME_MAX, NANOSECONDS_MAX, Node, directory, kind_of, mode,
};
pub use paths::PATH_MAX;
pub(crate) use paths::{Followed, implied, joined};
pub use pieces::Reader;
pub use xattrs::Xattrs;

/// A tree of nodes.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    memory: Memory,
}

impl Tree {
    /// The root directory.
    pub const ROOT: Id = Id(0);

    /// A tree of one node: an empty root directory with this metadata.
    #[must_use]
    pub fn new(meta: Meta) -> Self {
        let root = Node { meta, kind: directory(), names: 1 };
        Self { nodes: vec![root], memory: Memory::new() }
    }

    /// The node with this number.
    #[must_use]
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node with this number, for changes. The caller must change neither its `names`
    /// nor the children of a directory.
    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// All nodes that have a name, in the order in which they were added.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.names > 0)
    }

    /// Bytes of the contents of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let sizes = self.nodes().map(|node| match &node.kind {
            Kind::File(content) => content.size(),
            _ => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// The metadata of all nodes, for changes.
    pub fn metas_mut(&mut self) -> impl Iterator<Item = &mut Meta> {
        self.nodes.iter_mut().map(|node| &mut node.meta)
    }

    /// The numbers of all nodes from the one with index `first` on, in the order in which they
    /// were added, including those that lost their names.
    pub(crate) fn ids_from(&self, first: usize) -> impl Iterator<Item = Id> + use<> {
        (first..self.nodes.len()).filter_map(|index| Some(Id(u32::try_from(index).ok()?)))
    }

    /// Number of nodes, including those that lost their names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Always `false`: every tree has a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The children of directory `id`; `None` if `id` is not a directory.
    #[must_use]
    pub fn children(&self, id: Id) -> Option<&Children> {
        match &self.node(id).kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// Adds a node as `name` to directory `parent`, and returns its number. If another
    /// node has the name, it loses that name. If the old and the new node are
    /// directories, the old one stays and takes the metadata of the new one.
    ///
    /// # Errors
    /// An invalid name or an invalid target of a link; a parent that is not a directory;
    /// more than 2^32 nodes, or names that need more than [`MEMORY_MAX`] bytes of memory.
    pub fn add(&mut self, parent: Id, name: &[u8], meta: Meta, kind: Kind) -> Result<Id> {
        if let Kind::Symlink(target) = &kind {
            ensure!(!target.is_empty(), "the link has no target");
            ensure!(!target.contains(&0), "the target of the link contains NUL");
        }
        if let (Kind::Directory(_), Some(found)) = (&kind, self.child(parent, name))
            && self.children(found).is_some()
        {
            self.node_mut(found).meta = meta;
            return Ok(found);
        }
        match &kind {
            Kind::Directory(_) => self.memory.take_directory()?,
            Kind::Symlink(target) => self.memory.take_target(target)?,
            _ => {}
        }
        let id = Id(u32::try_from(self.nodes.len()).context("more than 2^32 files")?);
        self.nodes.push(Node { meta, kind, names: 0 });
        self.link(parent, name, id)?;
        Ok(id)
    }

    /// Adds a hard link: gives node `id` the name `name` in directory `parent`.
    ///
    /// # Errors
    /// Those of [`Tree::add`]; a second name for a directory.
    pub fn link(&mut self, parent: Id, name: &[u8], id: Id) -> Result<()> {
        check_name(name)?;
        self.memory.take_name(name)?;
        let node = self.node(id);
        let is_directory = matches!(node.kind, Kind::Directory(_));
        ensure!(node.names == 0 || !is_directory, "a directory has one name");
        self.node_mut(id).names += 1;
        let Kind::Directory(children) = &mut self.node_mut(parent).kind else {
            bail!("the parent is not a directory");
        };
        if let Some(old) = children.insert(name.into(), id) {
            self.unname(old);
        }
        Ok(())
    }

    /// Removes `name` from directory `parent`, if the directory has it. A node without names
    /// counts as removed; a directory takes its children with it.
    pub fn remove(&mut self, parent: Id, name: &[u8]) {
        if let Kind::Directory(children) = &mut self.node_mut(parent).kind
            && let Some(old) = children.remove(name)
        {
            self.unname(old);
        }
    }

    /// Removes all children of a directory, as [`Tree::remove`] does.
    pub(crate) fn remove_children(&mut self, directory: Id) {
        if let Kind::Directory(children) = &mut self.node_mut(directory).kind {
            for child in std::mem::take(children).into_values() {
                self.unname(child);
            }
        }
    }

    /// Counts one name less for node `id`. If it was the name of a directory, its children
    /// lose theirs, too.
    fn unname(&mut self, id: Id) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let node = self.node_mut(id);
            node.names -= 1;
            if node.names == 0
                && let Kind::Directory(children) = &mut node.kind
            {
                pending.extend(std::mem::take(children).into_values());
            }
        }
    }

    /// The node called `name` in directory `parent`.
    #[must_use]
    pub fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        self.children(parent)?.get(name).copied()
    }

    /// The node at `path` from the root. Links are not followed; `.` and repeated slashes
    /// are ignored.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<Id> {
        components(path).try_fold(Self::ROOT, |at, name| self.child(at, name))
    }

    /// Calls `visit` for every name, with its path and node. The root comes first, with an
    /// empty path; a directory comes before its children; the children come in byte order.
    /// Paths have no leading `/`.
    ///
    /// # Errors
    /// The first error of `visit`, which ends the walk.
    pub fn walk(&self, visit: &mut dyn FnMut(&[u8], Id) -> Result<()>) -> Result<()> {
        self.walk_below(&mut Vec::new(), Self::ROOT, visit)
    }

    /// The first path of node `id` in the order of [`Tree::walk`], without a leading `/`;
    /// `None` if it has no name.
    #[must_use]
    pub fn path_of(&self, id: Id) -> Option<Vec<u8>> {
        let mut found = None;
        let mut visit = |path: &[u8], at| {
            if at == id && found.is_none() {
                found = Some(path.to_vec());
            }
            Ok(())
        };
        // The walk cannot fail, because `visit` cannot.
        let _ = self.walk(&mut visit);
        found
    }

    /// The path of [`Tree::path_of`] as printable text, with a leading `/`.
    #[must_use]
    pub fn show_path_of(&self, id: Id) -> String {
        self.path_of(id).map(|path| format!("/{}", show(&path))).unwrap_or_default()
    }

    /// A tree whose root is the directory `id` of this one. Contents stay where they are.
    ///
    /// # Errors
    /// `id` is no directory; those of [`Tree::add`].
    pub fn below(&self, id: Id) -> Result<Self> {
        ensure!(self.children(id).is_some(), "{} is no directory", self.show_path_of(id));
        let mut tree = Self::new(self.node(id).meta.clone());
        // Files with several names, by their numbers in this tree.
        let mut added = std::collections::HashMap::new();
        let mut pending = vec![(id, Self::ROOT)];
        while let Some((from, to)) = pending.pop() {
            for (name, &id) in self.children(from).into_iter().flatten() {
                let node = self.node(id);
                match (&node.kind, added.get(&id)) {
                    (_, Some(&known)) => tree.link(to, name, known)?,
                    (Kind::Directory(_), None) => {
                        pending.push((id, tree.add(to, name, node.meta.clone(), directory())?));
                    }
                    (kind, None) => {
                        let new = tree.add(to, name, node.meta.clone(), kind.clone())?;
                        added.insert(id, new);
                    }
                }
            }
        }
        Ok(tree)
    }

    fn walk_below(
        &self,
        path: &mut Vec<u8>,
        id: Id,
        visit: &mut dyn FnMut(&[u8], Id) -> Result<()>,
    ) -> Result<()> {
        visit(path, id)?;
        let length = path.len();
        for (name, child) in self.children(id).into_iter().flatten() {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.walk_below(path, *child, visit)?;
            path.truncate(length);
        }
        Ok(())
    }
}

/// The names of a path, without `.` and empty names.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

fn check_name(name: &[u8]) -> Result<()> {
    let problem = match name {
        b"" => "it is empty",
        b"." | b".." => "it stands for a directory",
        _ if name.len() > NAME_MAX => "it is longer than 255 bytes",
        _ if name.contains(&b'/') || name.contains(&0) => "it contains '/' or NUL",
        _ => return Ok(()),
    };
    bail!("name \"{}\": {problem}", name.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Kind {
        Kind::File(Content::Bytes(text.as_bytes().into()))
    }

    fn walked(tree: &Tree) -> Vec<String> {
        let mut paths = Vec::new();
        let mut visit = |path: &[u8], id| {
            paths.push(format!("{} {}", String::from_utf8_lossy(path), tree.node(id).names));
            Ok(())
        };
        tree.walk(&mut visit).unwrap();
        paths
    }

    #[test]
    fn the_order_of_names_does_not_depend_on_the_order_of_additions() {
        let mut tree = Tree::new(Meta::default());
        let b = tree.add(Tree::ROOT, b"b", Meta::default(), directory()).unwrap();
        let c = tree.add(b, b"c", Meta::default(), file("1")).unwrap();
        tree.link(Tree::ROOT, b"a", c).unwrap();
        assert_eq!(walked(&tree), [" 1", "a 2", "b 1", "b/c 2"]);
        assert_eq!(tree.find(b"./b//c"), Some(c));
        // A file with two names counts once.
        assert_eq!(tree.size(), 1);
        let path = |id| tree.path_of(id).unwrap();
        assert_eq!((path(Tree::ROOT), path(b), path(c)), (vec![], b"b".to_vec(), b"a".to_vec()));
        assert_eq!(tree.show_path_of(b), "/b");
        assert_eq!(tree.find(b"b/d"), None);
    }

    #[test]
    fn a_name_belongs_to_the_last_node_added() {
        let mut tree = Tree::new(Meta::default());
        let first = tree.add(Tree::ROOT, b"a", Meta::default(), file("1")).unwrap();
        tree.link(Tree::ROOT, b"b", first).unwrap();
        tree.add(Tree::ROOT, b"a", Meta::default(), directory()).unwrap();
        assert_eq!(tree.node(first).names, 1);
        let again = Meta { uid: 7, ..Meta::default() };
        let a = tree.add(Tree::ROOT, b"a", again, directory()).unwrap();
        let x = tree.add(a, b"x", Meta::default(), file("2")).unwrap();
        tree.link(Tree::ROOT, b"c", x).unwrap();
        tree.add(Tree::ROOT, b"a", Meta::default(), directory()).unwrap();
        assert_eq!(walked(&tree), [" 1", "a 1", "a/x 2", "b 1", "c 2"]);
        tree.add(Tree::ROOT, b"a", Meta::default(), file("3")).unwrap();
        assert_eq!(walked(&tree), [" 1", "a 1", "b 1", "c 1"]);
    }

    #[test]
    fn invalid_names_are_refused() {
        let mut tree = Tree::new(Meta::default());
        let long = vec![b'x'; NAME_MAX + 1];
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &long] {
            assert!(tree.add(Tree::ROOT, name, Meta::default(), file("")).is_err());
        }
        let file = tree.add(Tree::ROOT, &long[1..], Meta::default(), file("")).unwrap();
        assert!(tree.add(file, b"a", Meta::default(), Kind::Fifo).is_err());
    }
}
