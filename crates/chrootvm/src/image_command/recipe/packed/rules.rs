//! What a package may hold: files, directories, and links that stay inside.
//!
//! Packing and unpacking have the same rules, so whatever was packed can be unpacked. A link stays
//! inside if `..` is only at the beginning of its target, and at most as often as there are
//! directories above the link. These directories are none that a link could replace, and any link
//! that the rest of the target passes through keeps the same rule.

use anyhow::{Result, bail, ensure};
use image::tree::{Kind, Meta, Tree, components, show};
use nix::unistd::{getegid, geteuid};

pub(super) use super::super::package::RECIPE;

/// Name of the recipe's lock file in a package.
pub(super) const LOCK: &str = "recipe.lock";

/// Most files, directories and links of a package.
pub(super) const MEMBERS_MAX: usize = 100_000;
/// Most bytes of all files of a package, and of its archive without compression.
pub(super) const SIZE_MAX: u64 = 8 << 30;

/// Permissions of directories, and of files that anybody may execute.
const OF_PROGRAM: u16 = 0o755;
/// Permissions of other files.
const OF_FILE: u16 = 0o644;
/// Permissions of links, as symlink(2) sets them.
const OF_LINK: u16 = 0o777;
/// Any of the bits by which a file can be executed (`S_IXUGO`).
const ANY_EXECUTE: u16 = 0o111;

/// Who owns the files of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// User 0 and group 0, for an archive.
    Root,
    /// The user of this program, for a directory.
    Own,
}

/// Checks the tree of a package.
///
/// # Errors
/// The first thing that a package may not hold; the recipe is missing.
pub(super) fn check(tree: &Tree) -> Result<()> {
    let mut members = 0;
    tree.walk(&mut |path, id| {
        members += 1;
        ensure!(members <= MEMBERS_MAX, "a package has no more than {MEMBERS_MAX} files");
        match &tree.node(id).kind {
            Kind::Directory(_) | Kind::File(_) => Ok(()),
            Kind::Symlink(target) => check_link(path, target),
            _ => bail!("{}: a package has files, directories and links only", show(path)),
        }
    })?;
    let size = tree.size();
    ensure!(size <= SIZE_MAX, "its files have {size} bytes; a package has no more than {SIZE_MAX}");
    let recipe = tree.find(RECIPE.as_bytes()).map(|id| &tree.node(id).kind);
    ensure!(matches!(recipe, Some(Kind::File(_))), "a package has the file {RECIPE}");
    Ok(())
}

/// Checks that the link at `path` stays inside the package.
///
/// # Errors
/// It does not, or only the files that it passes through could tell.
pub(super) fn check_link(path: &[u8], target: &[u8]) -> Result<()> {
    let depth = components(path).count().saturating_sub(1);
    let up = components(target).take_while(|name| *name == b"..").count();
    let is_plain = !components(target).skip(up).any(|name| name == b"..");
    ensure!(
        !target.starts_with(b"/") && is_plain && up <= depth,
        "{} is a link to {}: the links of a package stay inside, with .. at the beginning of the \
         target only (a link step makes any link in the image)",
        show(path),
        show(target)
    );
    Ok(())
}

/// Gives all files of the tree the metadata that they have in a package: of what they had, only
/// who may execute them is left.
pub(super) fn level(tree: &mut Tree, owner: Owner) -> Result<()> {
    let (uid, gid) = match owner {
        Owner::Root => (0, 0),
        Owner::Own => (geteuid().as_raw(), getegid().as_raw()),
    };
    let mut ids = Vec::new();
    tree.walk(&mut |_, id| {
        ids.push(id);
        Ok(())
    })?;
    for id in ids {
        let node = tree.node_mut(id);
        let is_program = node.meta.permissions & ANY_EXECUTE != 0;
        let permissions = match &node.kind {
            Kind::Directory(_) => OF_PROGRAM,
            Kind::Symlink(_) => OF_LINK,
            _ if is_program => OF_PROGRAM,
            _ => OF_FILE,
        };
        node.meta = Meta { permissions, uid, gid, ..Meta::default() };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::tree::{Content, directory};

    #[test]
    fn links_stay_inside() {
        for (path, target, is_inside) in [
            ("a", "b", true),
            ("a", "./b/c", true),
            ("a", "..", false),
            ("a", "../a", false),
            ("d/a", "../b", true),
            ("d/a", "..", true),
            ("d/a", "./../b", true),
            ("d/a", "../../b", false),
            ("d/e/a", "../../b/c", true),
            ("d/a", "b/../c", false),
            ("a", "/etc/passwd", false),
            ("a", "/", false),
        ] {
            let found = check_link(path.as_bytes(), target.as_bytes());
            assert_eq!(found.is_ok(), is_inside, "{path} -> {target}");
        }
    }

    #[test]
    fn only_who_may_execute_is_left() {
        let mut tree = Tree::new(Meta { permissions: 0o700, ..Meta::default() });
        let file = || Kind::File(Content::Bytes(b"x"[..].into()));
        let meta = |permissions| Meta { permissions, uid: 7, gid: 8, mtime: 9, ..Meta::default() };
        for (path, permissions) in [("a", 0o4710), ("b", 0o600), ("c", 0o666)] {
            tree.put(path.as_bytes(), meta(permissions), file()).unwrap();
        }
        tree.put(b"d", meta(0o2770), directory()).unwrap();
        tree.put(b"l", meta(0), Kind::Symlink(b"a"[..].into())).unwrap();
        level(&mut tree, Owner::Root).unwrap();
        for (path, permissions) in
            [("", 0o755), ("a", 0o755), ("b", 0o644), ("c", 0o644), ("d", 0o755), ("l", 0o777)]
        {
            let meta = &tree.node(tree.find(path.as_bytes()).unwrap()).meta;
            assert_eq!(*meta, Meta { permissions, ..Meta::default() }, "{path}");
        }
    }

    #[test]
    fn packages_have_limits() {
        let mut tree = Tree::new(Meta::default());
        let file = |size| {
            let archive = std::fs::File::open("/dev/null").unwrap().into();
            Kind::File(Content::Part { archive, offset: 0, size })
        };
        tree.put(RECIPE.as_bytes(), Meta::default(), file(1)).unwrap();
        tree.put(b"large", Meta::default(), file(SIZE_MAX - 1)).unwrap();
        check(&tree).unwrap();
        tree.put(b"more", Meta::default(), file(1)).unwrap();
        assert!(check(&tree).unwrap_err().to_string().contains("no more than 8589934592"));
        tree.remove(Tree::ROOT, b"more");
        // The root, the recipe and the large file are members, too.
        for number in 3..MEMBERS_MAX {
            tree.put(number.to_string().as_bytes(), Meta::default(), directory()).unwrap();
        }
        check(&tree).unwrap();
        tree.put(b"more", Meta::default(), directory()).unwrap();
        assert!(check(&tree).unwrap_err().to_string().contains("no more than 100000 files"));
    }

    #[test]
    fn a_package_has_a_recipe_and_no_special_files() {
        let file = || Kind::File(Content::Bytes(b"x"[..].into()));
        let with = |path: &str, kind| {
            let mut tree = Tree::new(Meta::default());
            tree.put(RECIPE.as_bytes(), Meta::default(), file()).unwrap();
            tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
            check(&tree).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(with("a", file()), "");
        for (path, kind, expected) in [
            ("a", Kind::Fifo, "a: a package has files"),
            ("d/a", Kind::Socket, "d/a: a package has files"),
            ("a", Kind::CharDevice(1, 3), "a: a package has files"),
            ("a", Kind::BlockDevice(8, 0), "a: a package has files"),
            ("a", Kind::Symlink(b"/etc"[..].into()), "a is a link to /etc"),
            (RECIPE, Kind::Symlink(b"a"[..].into()), "a package has the file recipe.toml"),
            (RECIPE, directory(), "a package has the file recipe.toml"),
        ] {
            let shown = format!("{kind:?}");
            let message = with(path, kind);
            assert!(message.contains(expected), "{path} {shown}: {message}");
        }
    }
}
