//! Differences between two trees, whatever formats they were read from.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use anyhow::{Context, Result};
use files::named::Named;

use crate::tree::holes::are_equal;
use crate::tree::{Content, Id, Kind, Meta, Node, Tree, mode, show};

/// Property in which two nodes with the same path may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Kind of file
    Type,
    /// Permissions
    Mode,
    /// User and group
    Owner,
    /// When it was modified
    Time,
    /// Extended attributes
    Xattrs,
    /// Where a link points to
    Target,
    /// Numbers of a device node
    Device,
    /// Number of bytes of a regular file
    Size,
    /// Bytes of a regular file, if the sizes are equal
    Content,
    /// Set of names that belong to the same file (hard links)
    Links,
}

#[rustfmt::skip]
impl Named for Aspect {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("type", Self::Type, "Kind of file"),
        ("mode", Self::Mode, "Permissions"),
        ("owner", Self::Owner, "User and group"),
        ("time", Self::Time, "When it was modified"),
        ("xattrs", Self::Xattrs, "Extended attributes"),
        ("target", Self::Target, "Where a link points to"),
        ("device", Self::Device, "Numbers of a device node"),
        ("size", Self::Size, "Number of bytes of a regular file"),
        ("content", Self::Content, "Bytes of a regular file, if the sizes are equal"),
        ("links", Self::Links, "Set of names that belong to the same file (hard links)"),
    ];
}

/// One difference between two trees. Paths are printable text.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the first tree has this path.
    Removed(String),
    /// Only the second tree has this path.
    Added(String),
    /// Both trees have this path, and the nodes differ in these aspects.
    Changed(String, Vec<Aspect>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed(path) => write!(f, "- {path}"),
            Self::Added(path) => write!(f, "+ {path}"),
            Self::Changed(path, aspects) => {
                let names = aspects.iter().map(|aspect| format!("{aspect:?}").to_lowercase());
                write!(f, "! {path}: {}", names.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Compares `a` with `b`, and passes each difference to `tell`. If only one of them has a
/// directory, only the directory is reported, not its contents.
///
/// # Errors
/// Contents that cannot be read.
pub fn compare(a: &Tree, b: &Tree, ignore: &[Aspect], tell: &mut dyn FnMut(Change)) -> Result<()> {
    let (a, b) = (Side::new(a), Side::new(b));
    Comparison { a, b, ignore, names: 0 }.node("", Tree::ROOT, Tree::ROOT, tell)
}

/// One of the two trees.
struct Side<'a> {
    tree: &'a Tree,
    /// For each node with several names: the number of its first name that both trees have.
    first: HashMap<Id, u64>,
}

impl<'a> Side<'a> {
    fn new(tree: &'a Tree) -> Self {
        Self { tree, first: HashMap::new() }
    }

    /// Returns the number of the first name of node `id`; `number` is the number of the
    /// current name.
    fn first_name(&mut self, id: Id, number: u64) -> u64 {
        match self.tree.node(id).names {
            1 => number,
            _ => *self.first.entry(id).or_insert(number),
        }
    }
}

struct Comparison<'a> {
    a: Side<'a>,
    b: Side<'a>,
    ignore: &'a [Aspect],
    /// Number of names so far that both trees have.
    names: u64,
}

impl Comparison<'_> {
    /// Compares two nodes with the same path, and everything below them.
    fn node(&mut self, path: &str, a: Id, b: Id, tell: &mut dyn FnMut(Change)) -> Result<()> {
        let shown = || if path.is_empty() { "." } else { path }.to_owned();
        self.names += 1;
        let firsts = [self.a.first_name(a, self.names), self.b.first_name(b, self.names)];
        let (a_tree, b_tree) = (self.a.tree, self.b.tree);
        let mut aspects = self.aspects(a_tree.node(a), b_tree.node(b)).with_context(shown)?;
        if firsts[0] != firsts[1] && aspects != [Aspect::Type] {
            aspects.push(Aspect::Links);
        }
        aspects.retain(|aspect| !self.ignore.contains(aspect));
        if !aspects.is_empty() {
            tell(Change::Changed(shown(), aspects));
        }
        let (Some(ours), Some(theirs)) = (a_tree.children(a), b_tree.children(b)) else {
            return Ok(());
        };
        for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let path = if path.is_empty() { show(name) } else { format!("{path}/{}", show(name)) };
            match (ours.get(name), theirs.get(name)) {
                (Some(&a), Some(&b)) => self.node(&path, a, b, tell)?,
                (Some(_), None) => tell(Change::Removed(path)),
                _ => tell(Change::Added(path)),
            }
        }
        Ok(())
    }

    fn aspects(&self, a: &Node, b: &Node) -> Result<Vec<Aspect>> {
        if mode(a) >> 12 != mode(b) >> 12 {
            return Ok(vec![Aspect::Type]);
        }
        let (ours, theirs) = (&a.meta, &b.meta);
        let kind = match (&a.kind, &b.kind) {
            (Kind::Symlink(a), Kind::Symlink(b)) => (a != b).then_some(Aspect::Target),
            (Kind::CharDevice(a, b), Kind::CharDevice(c, d))
            | (Kind::BlockDevice(a, b), Kind::BlockDevice(c, d)) => {
                ((a, b) != (c, d)).then_some(Aspect::Device)
            }
            (Kind::File(a), Kind::File(b)) => self.contents(a, b)?,
            _ => None,
        };
        // Linux ignores the permissions of a link.
        let is_link = matches!(a.kind, Kind::Symlink(_));
        let rows = [
            (Aspect::Mode, !is_link && ours.permissions != theirs.permissions),
            (Aspect::Owner, (ours.uid, ours.gid) != (theirs.uid, theirs.gid)),
            (Aspect::Time, differs_in_time(ours, theirs)),
            (Aspect::Xattrs, ours.xattrs != theirs.xattrs),
        ];
        let differing = rows.iter().filter(|(_, differs)| *differs).map(|(aspect, _)| *aspect);
        Ok(differing.chain(kind).collect())
    }

    fn contents(&self, a: &Content, b: &Content) -> Result<Option<Aspect>> {
        if a.size() != b.size() {
            return Ok(Some(Aspect::Size));
        }
        if self.ignore.contains(&Aspect::Content) {
            return Ok(None);
        }
        Ok((!are_equal(a, b)?).then_some(Aspect::Content))
    }
}

/// Whether the times differ. Not all formats keep nanoseconds, so these count only if both have
/// some.
fn differs_in_time(ours: &Meta, theirs: &Meta) -> bool {
    let nanoseconds = [ours.nanoseconds, theirs.nanoseconds];
    ours.mtime != theirs.mtime || !nanoseconds.contains(&0) && nanoseconds[0] != nanoseconds[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, Meta, &str)]) -> Tree {
        let mut tree = Tree::new(Meta::default());
        for (path, meta, text) in files {
            let kind = match text.strip_prefix("->") {
                Some(target) => Kind::Symlink(target.as_bytes().into()),
                None => Kind::File(Content::Bytes(text.as_bytes().into())),
            };
            tree.put(path.as_bytes(), meta.clone(), kind).unwrap();
        }
        tree
    }

    fn changes(a: &Tree, b: &Tree, ignore: &[Aspect]) -> Vec<String> {
        let mut lines = Vec::new();
        compare(a, b, ignore, &mut |change| lines.push(change.to_string())).unwrap();
        lines
    }

    #[test]
    fn every_difference_is_reported() {
        let meta = |permissions, uid, mtime| Meta { permissions, uid, mtime, ..Meta::default() };
        let m = Meta::default();
        let a = tree(&[
            ("a/gone", m.clone(), ""),
            ("b", meta(0o644, 0, 0), "12"),
            ("c", m.clone(), "12"),
            ("d", m.clone(), "->x"),
            ("e", m.clone(), "->x"),
            ("f", m.clone(), "12"),
        ]);
        let b = tree(&[
            ("a/new\n", m.clone(), ""),
            ("b", meta(0o755, 1, 1), "13"),
            ("c", m.clone(), "123"),
            ("d", m.clone(), "->y"),
            ("e", m.clone(), "x"),
            ("f", m.clone(), "12"),
        ]);
        let expected = [
            "- a/gone",
            "+ a/new\\n",
            "! b: mode, owner, time, content",
            "! c: size",
            "! d: target",
            "! e: type",
        ];
        assert_eq!(changes(&a, &b, &[]), expected);
        let ignored = [Aspect::Time, Aspect::Mode, Aspect::Owner, Aspect::Content, Aspect::Size];
        assert_eq!(changes(&a, &b, &ignored).len(), 4);
        assert!(changes(&a, &a, &[]).is_empty());
    }

    #[test]
    fn hard_links_are_compared() {
        let linked = |groups: &[&[&str]]| {
            let mut tree = Tree::new(Meta::default());
            for names in groups {
                let kind = Kind::File(Content::Bytes(b"same"[..].into()));
                let id = tree.put(names[0].as_bytes(), Meta::default(), kind).unwrap();
                for name in &names[1..] {
                    tree.put_link(name.as_bytes(), id).unwrap();
                }
            }
            tree
        };
        let one = linked(&[&["d/z", "a", "m"]]);
        let two = linked(&[&["a"], &["d/z", "m"]]);
        let three = linked(&[&["a"], &["m"], &["d/z"]]);
        let cases: [(&str, &Tree, &Tree, &[&str]); 6] = [
            ("equal", &one, &linked(&[&["m", "d/z", "a"]]), &[]),
            ("one and two", &one, &two, &["! d/z: links", "! m: links"]),
            ("one and three", &one, &three, &["! d/z: links", "! m: links"]),
            ("two and three", &two, &three, &["! m: links"]),
            ("regrouped", &two, &linked(&[&["a", "m"], &["d/z"]]), &["! m: links"]),
            ("missing names", &two, &linked(&[&["d/z", "m"]]), &["- a"]),
        ];
        for (name, a, b, expected) in cases {
            assert_eq!(changes(a, b, &[]), expected, "{name}");
            assert_eq!(changes(a, b, &[Aspect::Links]).len(), usize::from(name == "missing names"));
            let mirrored = changes(b, a, &[]).len();
            assert_eq!(mirrored, expected.len(), "{name}");
        }
    }
}
