//! Adds files and directories of the host to a tree.
//!
//! Whatever is added belongs to root, because the user who has the files is nobody inside the
//! image. Links above a path are followed within the tree; no path leaves it. With other owners
//! and modes, [`put`](super::put) adds files in the same way.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use crate::tree::{Content, Id, Kind, Meta, Node, Tree, components, show};

/// Permissions of a file that is added alone: it is most likely a program.
const OF_FILE: u16 = 0o755;

/// Adds a file at `path`; into the directory at `path` as `name` if there is one, or if `path`
/// ends in a slash. Returns the path of the new file, without a leading `/`.
///
/// # Errors
/// A path with `..`, one that leads through a file, or one that is too long.
pub fn file(
    tree: &mut Tree,
    path: &[u8],
    name: &[u8],
    content: Content,
    mtime: i64,
) -> Result<Vec<u8>> {
    let meta = |_: &[u8]| Meta { permissions: OF_FILE, mtime, ..Meta::default() };
    file_with(tree, path, name, content, meta)
}

/// Adds a file as [`file()`] does, with the metadata that `meta` returns for its path.
pub(super) fn file_with(
    tree: &mut Tree,
    path: &[u8],
    name: &[u8],
    content: Content,
    meta: impl FnOnce(&[u8]) -> Meta,
) -> Result<Vec<u8>> {
    check(path)?;
    let mut names: Vec<&[u8]> = components(path).collect();
    if path.ends_with(b"/") || tree.find_directory(path).is_some() {
        names.push(name);
    }
    let path = names.join(&b'/');
    ensure!(!path.is_empty(), "the file has no name");
    put(tree, &path, meta(&path), Kind::File(content))?;
    Ok(path)
}

/// Adds the contents of `directory` to the directory at `path`, which is made if it is missing.
/// Directories that exist keep their attributes.
///
/// # Errors
/// Those of [`file()`]; a file of `directory` in place of a directory of the tree.
pub fn directory(tree: &mut Tree, path: &[u8], directory: &Tree) -> Result<()> {
    directory_with(tree, path, directory, &|_, node| of_root(&node.meta))
}

/// Adds the contents of a directory as [`directory()`] does, but the files keep their owners and
/// set-id bits.
///
/// # Errors
/// Those of [`directory()`].
pub fn directory_with_owners(tree: &mut Tree, path: &[u8], directory: &Tree) -> Result<()> {
    directory_with(tree, path, directory, &|_, node| node.meta.clone())
}

/// Adds the contents of a directory as [`directory()`] does, with the metadata that `meta`
/// returns for each path and node of `directory`.
pub(super) fn directory_with(
    tree: &mut Tree,
    path: &[u8],
    directory: &Tree,
    meta: &dyn Fn(&[u8], &Node) -> Meta,
) -> Result<()> {
    check(path)?;
    let above = components(path).collect::<Vec<_>>().join(&b'/');
    let is_file =
        tree.find_member(&above).is_some_and(|id| !matches!(tree.node(id).kind, Kind::Symlink(_)));
    ensure!(
        !is_file || tree.find_directory(&above).is_some(),
        "{} is no directory in the image",
        show(path)
    );
    // Files with several names, by their numbers in `directory`.
    let mut added: HashMap<Id, Id> = HashMap::new();
    directory.walk(&mut |below, id| {
        let path = match (above.is_empty(), below.is_empty()) {
            (false, false) => [&above, &b"/"[..], below].concat(),
            _ => [&above, below].concat(),
        };
        let node = directory.node(id);
        if let Some(&known) = added.get(&id) {
            check_free(tree, &path)?;
            return tree.put_link(&path, known).with_context(|| show(&path));
        }
        let kind = match &node.kind {
            Kind::Directory(_) if tree.find_directory(&path).is_some() => return Ok(()),
            Kind::Directory(_) => crate::tree::directory(),
            kind => kind.clone(),
        };
        let new = put(tree, &path, meta(&path, node), kind)?;
        if node.names > 1 {
            added.insert(id, new);
        }
        Ok(())
    })
}

/// Metadata of a file that now belongs to root. It loses its set-id bits: they were those of
/// another user.
fn of_root(meta: &Meta) -> Meta {
    Meta { permissions: meta.permissions & 0o1777, uid: 0, gid: 0, ..meta.clone() }
}

fn put(tree: &mut Tree, path: &[u8], meta: Meta, kind: Kind) -> Result<Id> {
    if !matches!(kind, Kind::Directory(_)) {
        check_free(tree, path)?;
    }
    tree.put(path, meta, kind).with_context(|| show(path))
}

/// Refuses to replace a directory by a file.
fn check_free(tree: &Tree, path: &[u8]) -> Result<()> {
    match tree.find_member(path).is_some_and(|id| tree.children(id).is_some()) {
        true => bail!("{} is a directory in the image", show(path)),
        false => Ok(()),
    }
}

fn check(path: &[u8]) -> Result<()> {
    let is_inside = components(path).all(|name| name != b"..");
    ensure!(is_inside, "{}: a path in the image has no \"..\"", show(path));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::directory as empty;

    fn content(text: &str) -> Content {
        Content::Bytes(text.as_bytes().into())
    }

    fn link(to: &str) -> Kind {
        Kind::Symlink(to.as_bytes().into())
    }

    fn image() -> Tree {
        let mut tree = Tree::new(Meta::default());
        let own = Meta { permissions: 0o700, uid: 7, ..Meta::default() };
        tree.put(b"etc", own, empty()).unwrap();
        tree.put(b"usr/bin/sh", Meta::default(), Kind::Fifo).unwrap();
        tree.put(b"bin", Meta::default(), link("usr/bin")).unwrap();
        tree.put(b"out", Meta::default(), link("../../outside")).unwrap();
        tree.put(b"file", Meta::default(), link("etc/none")).unwrap();
        tree
    }

    #[test]
    fn a_file_becomes_a_program_of_root() {
        for (path, expected) in [
            ("/usr/bin/app", "usr/bin/app"),
            ("usr/bin/", "usr/bin/src"),
            ("/bin", "usr/bin/src"),
            ("/bin/app", "usr/bin/app"),
            ("/", "src"),
            ("new/dir/", "new/dir/src"),
            ("out/x", "outside/x"),
            // A link at the path itself is replaced.
            ("file", "file"),
        ] {
            let mut tree = image();
            file(&mut tree, path.as_bytes(), b"src", content("x"), 5).unwrap();
            let id = tree.find(expected.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            let expected = Meta { permissions: 0o755, mtime: 5, ..Meta::default() };
            assert!(matches!(tree.node(id).kind, Kind::File(_)), "{path}");
            assert_eq!(tree.node(id).meta, expected, "{path}");
        }
        for bad in ["../x", "/a/../x", "usr/bin/sh/x", &"x/".repeat(3000)] {
            assert!(file(&mut image(), bad.as_bytes(), b"src", content("x"), 0).is_err(), "{bad}");
        }
        // The name of SRC is a directory there.
        assert!(file(&mut image(), b"/", b"etc", content("x"), 0).is_err());
    }

    #[test]
    fn a_directory_is_merged_into_one_of_the_image() {
        let mut from = Tree::new(Meta { permissions: 0o750, uid: 9, ..Meta::default() });
        let mode = |permissions| Meta { permissions, uid: 9, gid: 9, ..Meta::default() };
        let one = from.put(b"etc/one", mode(0o4640), Kind::File(content("1"))).unwrap();
        from.put_link(b"bin/two", one).unwrap();
        from.put(b"sub", mode(0o2711), empty()).unwrap();
        from.put(b"link", mode(0o777), link("etc/one")).unwrap();
        let mut tree = image();
        directory(&mut tree, b"/", &from).unwrap();
        let found = |path: &[u8]| tree.node(tree.find(path).unwrap());
        assert_eq!((found(b"etc").meta.permissions, found(b"etc").meta.uid), (0o700, 7));
        assert_eq!((found(b"etc/one").meta.permissions, found(b"etc/one").meta.uid), (0o640, 0));
        assert_eq!(tree.find(b"usr/bin/two"), tree.find(b"etc/one"));
        assert_eq!(found(b"sub").meta.permissions, 0o711);
        assert!(matches!(found(b"bin").kind, Kind::Symlink(_)));
        directory(&mut tree, b"srv/new", &from).unwrap();
        let new = tree.node(tree.find(b"srv/new").unwrap());
        assert_eq!((new.meta.permissions, new.meta.uid), (0o750, 0));
        assert!(tree.find(b"srv/new/bin/two").is_some());
        directory_with_owners(&mut tree, b"srv/own", &from).unwrap();
        let metas = [&b"srv/own"[..], b"srv/own/etc/one", b"srv/own/sub"].map(|path| {
            let meta = &tree.node(tree.find(path).unwrap()).meta;
            (meta.permissions, meta.uid, meta.gid)
        });
        assert_eq!(metas, [(0o750, 9, 0), (0o4640, 9, 9), (0o2711, 9, 9)]);
        for bad in [&b"../x"[..], b"usr/bin/sh"] {
            assert!(directory(&mut image(), bad, &from).is_err());
        }
        let mut file = Tree::new(Meta::default());
        file.put(b"etc", Meta::default(), Kind::Fifo).unwrap();
        assert!(directory(&mut image(), b"/", &file).is_err());
    }
}
