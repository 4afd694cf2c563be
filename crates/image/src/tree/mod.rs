//! A file system tree in memory: names and metadata, contents by reference.
//!
//! Every image is written from such a tree, and every image can be read as one.
//! Names are in byte order, so that equal trees are written as equal bytes,
//! whatever order their source had.
//!
//! Invariants: node 0 is the root and a directory; a directory has one name, any
//! other node has one or more (hard links); a name is 1-255 bytes, without `/` or
//! NUL, and neither `.` nor `..`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

pub use super::content::{Content, Stored};
pub use super::pieces::Reader;
pub use super::xattrs::Xattrs;
pub use files::tell::show;

/// Bytes of the longest name (`NAME_MAX`, `include/uapi/linux/limits.h`).
pub const NAME_MAX: usize = 255;

/// Names in a directory.
pub type Children = BTreeMap<Box<[u8]>, Id>;

/// A node of one tree: its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// Counted from 0, the root; names another node of the same tree never.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// What stat(2) tells of every node alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission, set-id and sticky bits: the lower 12 of `st_mode`.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// With what is in it.
    Directory(Children),
    /// A regular file.
    File(Content),
    /// With what it points to.
    Symlink(Box<[u8]>),
    /// Major and minor number.
    CharDevice(u32, u32),
    /// Major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// The name of a socket.
    Socket,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Owner, permissions, time, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind,
    /// Names that lead to it; 1 for a directory.
    pub names: u32,
}

/// A tree.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The root.
    pub const ROOT: Id = Id(0);

    /// An empty root directory with this metadata.
    #[must_use]
    pub fn new(meta: Meta) -> Self {
        let kind = Kind::Directory(Children::new());
        Self { nodes: vec![Node { meta, kind, names: 1 }] }
    }

    /// The node `id`.
    #[must_use]
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// As [`Tree::node`], to be changed; not its `names` or what is in it.
    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// All that have a name, in no order that means something.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.names > 0)
    }

    /// The metadata of all.
    pub fn metas_mut(&mut self) -> impl Iterator<Item = &mut Meta> {
        self.nodes.iter_mut().map(|node| &mut node.meta)
    }

    /// Number of nodes, those without a name included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A tree has a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What is in directory `id`; `None` where it is none.
    #[must_use]
    pub fn children(&self, id: Id) -> Option<&Children> {
        match &self.node(id).kind {
            Kind::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// Adds a node as `name` of directory `parent`. What had that name loses it,
    /// but a directory over a directory only changes that one's metadata.
    ///
    /// # Errors
    /// A name that no directory can have, or a target that no link can have; a parent
    /// that is none; more nodes than 32 bits number.
    pub fn add(&mut self, parent: Id, name: &[u8], meta: Meta, kind: Kind) -> Result<Id> {
        if let Kind::Symlink(target) = &kind {
            ensure!(!target.is_empty(), "a link to nothing");
            ensure!(!target.contains(&0), "a link to a path with NUL");
        }
        if let (Kind::Directory(_), Some(found)) = (&kind, self.child(parent, name))
            && self.children(found).is_some()
        {
            self.node_mut(found).meta = meta;
            return Ok(found);
        }
        let id = Id(u32::try_from(self.nodes.len()).context("more than 2^32 files")?);
        self.nodes.push(Node { meta, kind, names: 0 });
        self.link(parent, name, id)?;
        Ok(id)
    }

    /// Gives node `id`, which is no directory unless it is new, one more name.
    ///
    /// # Errors
    /// As those of [`Tree::add`]; a second name for a directory.
    pub fn link(&mut self, parent: Id, name: &[u8], id: Id) -> Result<()> {
        check_name(name)?;
        let node = self.node(id);
        let is_directory = matches!(node.kind, Kind::Directory(_));
        ensure!(node.names == 0 || !is_directory, "a directory has one name");
        self.node_mut(id).names += 1;
        let Kind::Directory(children) = &mut self.node_mut(parent).kind else {
            bail!("a file has nothing in it");
        };
        if let Some(old) = children.insert(name.into(), id) {
            self.unname(old);
        }
        Ok(())
    }

    /// Takes the name away from what has it in directory `parent`, if anything has.
    pub fn remove(&mut self, parent: Id, name: &[u8]) {
        if let Kind::Directory(children) = &mut self.node_mut(parent).kind
            && let Some(old) = children.remove(name)
        {
            self.unname(old);
        }
    }

    /// Takes a name from node `id`; where that was a directory's, what is in it
    /// goes with it.
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

    /// What `name` is in directory `parent`.
    #[must_use]
    pub fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        self.children(parent)?.get(name).copied()
    }

    /// What is at `path`, seen from the root; links are not followed, `.` and
    /// doubled slashes mean nothing.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<Id> {
        components(path).try_fold(Self::ROOT, |at, name| self.child(at, name))
    }

    /// Calls `visit` with the path, without a leading `/`, and the node of every
    /// name: a directory before what is in it, its names in byte order; the root
    /// first, whose path is empty.
    ///
    /// # Errors
    /// The first that `visit` gives.
    pub fn walk(&self, visit: &mut dyn FnMut(&[u8], Id) -> Result<()>) -> Result<()> {
        self.walk_below(&mut Vec::new(), Self::ROOT, visit)
    }

    /// The first path, in the order of names, that leads to node `id`, without a
    /// leading `/`; `None` where it has no name.
    #[must_use]
    pub fn path_of(&self, id: Id) -> Option<Vec<u8>> {
        let mut found = None;
        let mut visit = |path: &[u8], at| {
            if at == id && found.is_none() {
                found = Some(path.to_vec());
            }
            Ok(())
        };
        // Nothing fails: `visit` does not.
        let _ = self.walk(&mut visit);
        found
    }

    /// [`Tree::path_of`] for a person, with a leading `/`.
    #[must_use]
    pub fn show_path_of(&self, id: Id) -> String {
        self.path_of(id).map(|path| format!("/{}", show(&path))).unwrap_or_default()
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

/// The names of a path; `.` and empty ones are left out.
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

/// `st_mode` of a node (inode(7)): type and permissions.
#[must_use]
pub fn mode(node: &Node) -> u32 {
    let kind = match &node.kind {
        Kind::Directory(_) => 0o040_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::CharDevice(..) => 0o020_000,
        Kind::BlockDevice(..) => 0o060_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
    };
    kind | u32::from(node.meta.permissions)
}

/// What a node with this `st_mode` is, with nothing in a directory yet; `None` for
/// what has contents of its own, files and links, and for what is of no type.
#[must_use]
pub fn kind_of(mode: u32, (major, minor): (u32, u32)) -> Option<Kind> {
    Some(match mode >> 12 {
        0o01 => Kind::Fifo,
        0o02 => Kind::CharDevice(major, minor),
        0o04 => Kind::Directory(Children::new()),
        0o06 => Kind::BlockDevice(major, minor),
        0o14 => Kind::Socket,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Kind {
        Kind::Directory(Children::new())
    }

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
    fn order_does_not_depend_on_that_of_additions() {
        let mut tree = Tree::new(Meta::default());
        let b = tree.add(Tree::ROOT, b"b", Meta::default(), directory()).unwrap();
        let c = tree.add(b, b"c", Meta::default(), file("1")).unwrap();
        tree.link(Tree::ROOT, b"a", c).unwrap();
        assert_eq!(walked(&tree), [" 1", "a 2", "b 1", "b/c 2"]);
        assert_eq!(tree.find(b"./b//c"), Some(c));
        let path = |id| tree.path_of(id).unwrap();
        assert_eq!((path(Tree::ROOT), path(b), path(c)), (vec![], b"b".to_vec(), b"a".to_vec()));
        assert_eq!(tree.show_path_of(b), "/b");
        assert_eq!(tree.find(b"b/d"), None);
    }

    #[test]
    fn a_name_belongs_to_the_last_that_took_it() {
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
    fn a_mode_tells_what_a_node_is() {
        let node = |kind| Node { meta: Meta::default(), kind, names: 1 };
        let plain = [Kind::Fifo, directory(), Kind::Socket];
        let devices = [Kind::CharDevice(1, 2), Kind::BlockDevice(1, 2)];
        for kind in plain.into_iter().chain(devices) {
            let found = kind_of(mode(&node(kind.clone())) | 0o7777, (1, 2));
            assert_eq!(format!("{found:?}"), format!("{:?}", Some(kind)));
        }
        for mode in [mode(&node(file(""))), 0o120_777, 0, 0o170_000] {
            assert!(kind_of(mode, (1, 2)).is_none(), "{mode:o}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let mut tree = Tree::new(Meta::default());
        let long = vec![b'x'; NAME_MAX + 1];
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &long] {
            assert!(tree.add(Tree::ROOT, name, Meta::default(), file("")).is_err());
        }
        let file = tree.add(Tree::ROOT, &long[1..], Meta::default(), file("")).unwrap();
        assert!(tree.add(file, b"a", Meta::default(), Kind::Fifo).is_err());
    }
}
