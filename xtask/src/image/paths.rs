//! Paths in a [`Tree`]: made as an archive names them, or followed as the kernel
//! follows them.
//!
//! What comes from an archive never goes through a link, so that a member is
//! where its name says; what comes from a person does, within the tree.

use anyhow::{Context, Result, bail, ensure};

use super::tree::{Children, Id, Kind, Meta, Tree, components, show};

/// Bytes of the longest path (`PATH_MAX`, `include/uapi/linux/limits.h`, less its
/// NUL); it also bounds how deep a tree is.
pub const PATH_MAX: usize = 4095;

/// Links that are followed on one way (`MAXSYMLINKS`, `include/linux/namei.h`).
const LINKS_MAX: u32 = 40;

/// Of a directory that an archive does not mention.
fn implied() -> Meta {
    Meta { permissions: 0o755, ..Meta::default() }
}

/// An empty directory.
#[must_use]
pub fn directory() -> Kind {
    Kind::Directory(Children::new())
}

impl Tree {
    /// Adds a node at `path`, and the directories above it that are missing. The
    /// root is there already and takes `meta`.
    ///
    /// # Errors
    /// A path that is too long, has `..` or goes through what is no directory.
    pub fn put(&mut self, path: &[u8], meta: Meta, kind: Kind) -> Result<Id> {
        match self.place(path)? {
            Some((parent, name)) => self.add(parent, name, meta, kind),
            None if matches!(kind, Kind::Directory(_)) => {
                self.node_mut(Self::ROOT).meta = meta;
                Ok(Self::ROOT)
            }
            None => bail!("the root is a directory"),
        }
    }

    /// As [`Tree::put`], one more name for node `id`.
    ///
    /// # Errors
    /// Also those of [`Tree::link`].
    pub fn put_link(&mut self, path: &[u8], id: Id) -> Result<()> {
        let (parent, name) = self.place(path)?.context("the root is a directory")?;
        self.link(parent, name, id)
    }

    /// Parent, which is made where it is missing, and name; `None` for the root.
    fn place<'a>(&mut self, path: &'a [u8]) -> Result<Option<(Id, &'a [u8])>> {
        ensure!(path.len() <= PATH_MAX, "the path has more than {PATH_MAX} bytes");
        ensure!(components(path).all(|name| name != b".."), "the path has \"..\"");
        let mut names = components(path).peekable();
        let mut at = Self::ROOT;
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                return Ok(Some((at, name)));
            }
            at = match self.child(at, name) {
                None => self.add(at, name, implied(), directory())?,
                Some(id) if self.children(id).is_some() => id,
                Some(_) => bail!("{} above it is no directory", show(name)),
            };
        }
        Ok(None)
    }

    /// What `path` means in this tree, links followed: to the end, or to the first
    /// name that is missing and those behind it.
    fn follow(&self, path: &[u8]) -> Result<(Id, Vec<Box<[u8]>>)> {
        let reversed = |path: &[u8]| {
            let mut names: Vec<Box<[u8]>> = components(path).map(Into::into).collect();
            names.reverse();
            names
        };
        let (mut pending, mut trail, mut links) = (reversed(path), vec![Self::ROOT], 0);
        while let Some(name) = pending.pop() {
            let at = trail.last().copied().unwrap_or(Self::ROOT);
            ensure!(self.children(at).is_some(), "a file has nothing in it: {}", show(&name));
            if *name == *b".." {
                trail.pop();
                continue;
            }
            let Some(id) = self.child(at, &name) else {
                pending.push(name);
                pending.reverse();
                return Ok((at, pending));
            };
            let Kind::Symlink(target) = &self.node(id).kind else {
                trail.push(id);
                continue;
            };
            links += 1;
            ensure!(links <= LINKS_MAX, "too many links");
            if target.starts_with(b"/") {
                trail.clear();
            }
            pending.extend(reversed(target));
        }
        Ok((trail.last().copied().unwrap_or(Self::ROOT), Vec::new()))
    }

    /// What is at `path`, links followed within the tree.
    ///
    /// # Errors
    /// Where there is nothing.
    pub fn resolve(&self, path: &[u8]) -> Result<Id> {
        let (id, missing) = self.follow(path)?;
        match missing.first() {
            None => Ok(id),
            Some(name) => bail!("there is no {}", show(name)),
        }
    }

    /// The directory `path`, links followed within the tree, made where it is
    /// missing.
    ///
    /// # Errors
    /// A file where a directory is needed.
    pub fn make_directories(&mut self, path: &[u8]) -> Result<Id> {
        let (mut at, missing) = self.follow(path)?;
        for name in missing {
            at = self.add(at, &name, implied(), directory())?;
        }
        ensure!(self.children(at).is_some(), "it is no directory");
        Ok(at)
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
    fn members_do_not_go_through_links() {
        let mut tree = Tree::new(Meta::default());
        put(&mut tree, "a/b/file", Kind::Fifo).unwrap();
        put(&mut tree, "a/link", link("/etc")).unwrap();
        let long = "x/".repeat(PATH_MAX);
        for path in ["a/link/x", "a/b/file/x", "../x", "a/../x", "a/b/..", &long, ""] {
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
