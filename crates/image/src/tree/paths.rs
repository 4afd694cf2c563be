//! Paths in a tree, looked up by the rules of the kernel (path_resolution(7)).
//!
//! The root of the tree is `/`: neither a link nor `..` leads out of the tree. A new node
//! goes where an unpacker of archives puts it: links above it are followed (`lib` may be a
//! link to `usr/lib`), and a link at its own path is replaced.

use anyhow::{Context, Result, bail, ensure};

use super::{Id, Kind, Meta, Tree, components, directory, show};

/// Bytes of the longest path, without its NUL (`PATH_MAX - 1`,
/// `include/uapi/linux/limits.h`). It also limits the depth of a tree.
pub const PATH_MAX: usize = 4095;

/// Most symbolic links that one look-up follows (`MAXSYMLINKS`, `include/linux/namei.h`).
const LINKS_MAX: u32 = 40;

const TOO_LONG: &str = "the path has more than 4095 bytes";

/// Metadata of a directory that an archive needs, but does not contain.
pub(crate) fn implied() -> Meta {
    Meta { permissions: 0o755, ..Meta::default() }
}

/// The path of the child `name` of the directory at `path`, which is empty for the root.
pub(crate) fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path.is_empty() {
        true => name.to_vec(),
        false => [path, b"/", name].concat(),
    }
}

/// Result of following a path up to its end, or up to the first name that is missing.
pub(crate) struct Followed {
    /// The last node that exists.
    pub(crate) at: Id,
    /// Bytes of that node's own path, including one slash for each name.
    pub(crate) length: usize,
    /// The names that do not exist, in the order of the path.
    pub(crate) missing: Vec<Box<[u8]>>,
}

impl Tree {
    /// Names and numbers of the children of a node as they are now, for a walk that changes the tree.
    pub(crate) fn children_now(&self, id: Id) -> Vec<(Box<[u8]>, Id)> {
        let children = self.children(id).into_iter().flatten();
        children.map(|(name, id)| (name.clone(), *id)).collect()
    }

    /// Adds a node at `path`, and any missing directories above it. Links above the node are
    /// followed. If `path` is the root, `kind` must be a directory; the root then takes
    /// `meta`.
    ///
    /// # Errors
    /// A path that contains `..`, that leads through a file, or that is too long, either
    /// as it is or after links were followed; those of [`Tree::add`].
    pub fn put(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<Id> {
        match self.parent_and_name(path)? {
            Some((parent, name)) => self.add(parent, name, meta, kind),
            None if matches!(kind, Kind::Directory(_)) => {
                self.node_mut(Self::ROOT).meta = meta;
                Ok(Self::ROOT)
            }
            None => bail!("the root is a directory"),
        }
    }

    /// Adds a hard link to node `id` at `path`, and any missing directories above it.
    ///
    /// # Errors
    /// Those of [`Tree::put`] and [`Tree::link`].
    pub fn put_link(&mut self, path: &[u8], id: Id) -> Result<()> {
        let (parent, name) = self.parent_and_name(path)?.context("the root is a directory")?;
        self.link(parent, name, id)
    }

    /// Whether node `id` is a directory that is not empty. An unpacker cannot replace such
    /// a directory by another file, because rmdir(2) fails.
    #[must_use]
    pub fn is_filled(&self, id: Id) -> bool {
        self.children(id).is_some_and(|children| !children.is_empty())
    }

    /// The node at `path`. Links above the node are followed; if the node itself is a link,
    /// it is returned. Targets of hard links in archives are looked up in this way.
    #[must_use]
    pub fn find_member(&self, path: &[u8]) -> Option<Id> {
        let mut names: Vec<_> = components(path).collect();
        let Some(name) = names.pop() else { return Some(Self::ROOT) };
        self.child(self.resolve(&names.join(&b'/')).ok()?, name)
    }

    /// The directory at `path`, and the length of its own path in bytes. Links are followed.
    #[must_use]
    pub fn find_directory(&self, path: &[u8]) -> Option<(Id, usize)> {
        // Try without following links first, because most paths contain neither links nor `..`.
        if let Some(id) = self.find(path).filter(|&id| self.children(id).is_some()) {
            return Some((id, components(path).map(|name| 1 + name.len()).sum()));
        }
        let Followed { at, length, missing } = self.follow(path).ok()?;
        (missing.is_empty() && self.children(at).is_some()).then_some((at, length))
    }

    /// Returns the parent directory and the last name of `path`; `None` for the root. Makes
    /// missing directories.
    fn parent_and_name<'a>(&mut self, path: &'a [u8]) -> Result<Option<(Id, &'a [u8])>> {
        ensure!(path.len() <= PATH_MAX, TOO_LONG);
        ensure!(components(path).all(|name| name != b".."), "the path has \"..\"");
        let mut above: Vec<_> = components(path).collect();
        let Some(name) = above.pop() else { return Ok(None) };
        let mut at = Self::ROOT;
        for &above_name in &above {
            at = match self.child(at, above_name) {
                None => self.add(at, above_name, implied(), directory())?,
                Some(id) if self.children(id).is_some() => id,
                // The slow way, which follows links, starts again from the root.
                Some(_) => {
                    let (parent, length) = self.make(&above.join(&b'/'))?;
                    ensure!(length + name.len() < PATH_MAX, TOO_LONG);
                    return Ok(Some((parent, name)));
                }
            };
        }
        Ok(Some((at, name)))
    }

    /// Follows `path` and the links in it.
    fn follow(&self, path: &[u8]) -> Result<Followed> {
        self.follow_by(path, &mut |_, _| ())
    }

    /// The node at `path`; `None` if it does not exist. Links are followed within the tree.
    /// Passes every name on the way, and the directory that has it, to `visit`.
    ///
    /// # Errors
    /// A path that leads through a file; too many links.
    pub(crate) fn trace(
        &self,
        path: &[u8],
        visit: &mut dyn FnMut(Id, &[u8]),
    ) -> Result<Option<Id>> {
        let Followed { at, missing, .. } = self.follow_by(path, visit)?;
        Ok(missing.is_empty().then_some(at))
    }

    /// Follows `path` and the links in it as far as they lead. Passes every name on the way, and
    /// the directory that has it, to `visit`.
    ///
    /// # Errors
    /// Those of [`Tree::trace`].
    pub(crate) fn follow_by(
        &self,
        path: &[u8],
        visit: &mut dyn FnMut(Id, &[u8]),
    ) -> Result<Followed> {
        let reversed = |path: &[u8]| {
            let mut names: Vec<Box<[u8]>> = components(path).map(Into::into).collect();
            names.reverse();
            names
        };
        // `pending` has the names still to follow, the next one last. `trail` has the nodes
        // from the root (not included) to the current one, with the lengths of their paths.
        let (mut pending, mut trail, mut links) = (reversed(path), Vec::new(), 0);
        loop {
            let (at, length) = trail.last().copied().unwrap_or((Self::ROOT, 0));
            let Some(name) = pending.pop() else {
                return Ok(Followed { at, length, missing: Vec::new() });
            };
            ensure!(
                self.children(at).is_some(),
                "{}: the path above it is not a directory",
                show(&name)
            );
            if *name == *b".." {
                trail.pop();
                continue;
            }
            let Some(id) = self.child(at, &name) else {
                pending.push(name);
                pending.reverse();
                return Ok(Followed { at, length, missing: pending });
            };
            visit(at, &name);
            let Kind::Symlink(target) = &self.node(id).kind else {
                trail.push((id, length + 1 + name.len()));
                continue;
            };
            links += 1;
            ensure!(links <= LINKS_MAX, "too many links");
            if target.starts_with(b"/") {
                trail.clear();
            }
            pending.extend(reversed(target));
        }
    }

    /// The node at `path`. Links are followed within the tree.
    ///
    /// # Errors
    /// A path that does not exist; too many links.
    pub fn resolve(&self, path: &[u8]) -> Result<Id> {
        let Followed { at, missing, .. } = self.follow(path)?;
        match missing.first() {
            None => Ok(at),
            Some(name) => bail!("{} does not exist", show(name)),
        }
    }

    /// The directory at `path`. Links are followed within the tree; missing directories are
    /// made.
    ///
    /// # Errors
    /// A path that leads through a file, or that is too long.
    pub fn make_directories(&mut self, path: &[u8]) -> Result<Id> {
        self.make(path).map(|(id, _)| id)
    }

    /// Like [`Tree::make_directories`], but also returns the length of the directory's own
    /// path. Its limit keeps links from making a tree deeper than a path can be.
    fn make(&mut self, path: &[u8]) -> Result<(Id, usize)> {
        let Followed { mut at, mut length, missing } = self.follow(path)?;
        for name in missing {
            length += 1 + name.len();
            ensure!(length <= PATH_MAX, TOO_LONG);
            at = self.add(at, &name, implied(), directory())?;
        }
        ensure!(self.children(at).is_some(), "{} is not a directory", show(path));
        Ok((at, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(to: &str) -> Kind {
        Kind::Symlink(to.as_bytes().into())
    }

    fn put(tree: &mut Tree, path: &str, kind: Kind) -> Result<Id> {
        tree.put(path.as_bytes(), Meta::default(), kind)
    }

    #[test]
    fn paths_of_members_are_checked() {
        let mut tree = Tree::new(Meta::default());
        put(&mut tree, "a/b/file", Kind::Fifo).unwrap();
        let long = "x/".repeat(PATH_MAX);
        for path in ["a/b/file/x", "../x", "a/../x", "a/b/..", &long, ""] {
            assert!(put(&mut tree, path, Kind::Fifo).is_err(), "{path}");
        }
        put(&mut tree, "/a/./b//other", Kind::Fifo).unwrap();
        assert!(tree.find(b"a/b/other").is_some());
        assert_eq!(tree.node(tree.find(b"a/b").unwrap()).meta.permissions, 0o755);
        let root = Meta { uid: 5, ..Meta::default() };
        tree.put(b"./", root, directory()).unwrap();
        assert_eq!(tree.node(Tree::ROOT).meta.uid, 5);
    }

    #[test]
    fn members_go_through_links_above_them() {
        let mut tree = Tree::new(Meta::default());
        let usr = put(&mut tree, "usr/lib", directory()).unwrap();
        for (name, target) in
            [("lib", "usr/lib"), ("up", "../../usr/lib"), ("abs", "/usr/./lib"), ("chain", "lib")]
        {
            put(&mut tree, name, link(target)).unwrap();
            let file = put(&mut tree, &format!("{name}/{name}"), Kind::Fifo).unwrap();
            assert_eq!(tree.find(format!("usr/lib/{name}").as_bytes()), Some(file), "{name}");
            assert_eq!(tree.find_member(format!("{name}/{name}").as_bytes()), Some(file));
            assert!(tree.children(tree.find(name.as_bytes()).unwrap()).is_none(), "{name}");
        }
        put(&mut tree, "dangling", link("opt/new")).unwrap();
        let deep = put(&mut tree, "dangling/a/b", Kind::Fifo).unwrap();
        assert_eq!(tree.find(b"opt/new/a/b"), Some(deep));
        let file = tree.find_member(b"chain/lib").unwrap();
        tree.put_link(b"up/again", file).unwrap();
        assert_eq!(tree.child(usr, b"again"), Some(file));
        // A hard link to a link leads to the link itself; a new node replaces the link itself.
        assert_eq!(tree.find_member(b"lib"), tree.find(b"lib"));
        put(&mut tree, "lib", directory()).unwrap();
        assert!(tree.find(b"lib/lib").is_none());
        put(&mut tree, "loop", link("loop")).unwrap();
        put(&mut tree, "file", link("usr/lib/up")).unwrap();
        for path in ["loop/x", "file/x"] {
            assert!(put(&mut tree, path, Kind::Fifo).is_err(), "{path}");
        }
    }

    /// [`Tree::walk`] is recursive, so the depth of a tree must be limited.
    #[test]
    fn links_make_no_tree_deeper_than_a_path_is_long() {
        let mut tree = Tree::new(Meta::default());
        let deep = "d/".repeat(PATH_MAX / 2 - 10);
        put(&mut tree, &deep, directory()).unwrap();
        put(&mut tree, "l", link(&deep)).unwrap();
        put(&mut tree, "l/near", Kind::Fifo).unwrap();
        for path in ["l/a/b/c/d/e/f/g/h/i/j/k/l", "l/a-name-that-is-too-long-for-it"] {
            let error = put(&mut tree, path, Kind::Fifo).unwrap_err();
            assert_eq!(error.to_string(), TOO_LONG, "{path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_tree() {
        let mut tree = Tree::new(Meta::default());
        let file = put(&mut tree, "usr/lib/os-release", Kind::Fifo).unwrap();
        put(&mut tree, "etc/os-release", link("../usr/lib/os-release")).unwrap();
        put(&mut tree, "lib", link("/../usr/./lib")).unwrap();
        put(&mut tree, "loop", link("loop")).unwrap();
        put(&mut tree, "sbin", link("usr/sbin")).unwrap();
        for path in ["/etc/os-release", "lib/os-release", "../../lib/../lib/os-release"] {
            assert_eq!(tree.resolve(path.as_bytes()).unwrap(), file, "{path}");
        }
        for path in ["loop", "sbin", "etc/os-release/x", "etc/os-release/..", "none"] {
            assert!(tree.resolve(path.as_bytes()).is_err(), "{path}");
        }
        let made = tree.make_directories(b"sbin").unwrap();
        assert_eq!(tree.find(b"usr/sbin"), Some(made));
        assert!(tree.make_directories(b"etc/os-release").is_err());
    }
}
