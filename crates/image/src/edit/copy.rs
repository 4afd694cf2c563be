//! Puts files and directories into a tree as the instructions `COPY` and `ADD` do.
//!
//! Semantics: the Dockerfile reference, sections COPY and ADD, and what BuildKit does: function
//! `Copy` of the package tonistiigi/fsutil/copy for [`copy()`], and
//! `solver/llbsolver/file/unpack_root.go` for [`unpack()`].
//!
//! | There already is | [`copy()`] of a file | [`copy()`] of a directory | [`unpack()`] |
//! |---|---|---|---|
//! | a directory | error | merged | merged, or replaced by a file |
//! | a file | replaced | error | replaced |
//! | a link, as destination | its target is replaced | goes into its target | goes into its target |
//! | a link, below the destination | replaced | error | replaced, or followed by a directory |
//!
//! A directory that is merged takes the owner, the mode, the time and the attributes of the
//! source, except the destination itself, which keeps its own.
//!
//! Known differences: BuildKit gives the destination the modification time of a source that is a
//! directory. The copier of buildah replaces files and directories by each other, and a link by a
//! directory, where [`copy()`] fails.
//!
//! Everything is followed within the tree: neither a link nor `..` leads out of it.

mod merge;

use anyhow::{Context, Result, bail, ensure};

use self::merge::{Clash, Merge};
use super::select::Selected;
use crate::tree::{Followed, Id, Kind, Meta, Node, PATH_MAX, Tree, components, joined, show};

/// Permissions of a directory that is missing above a destination (`defaultDirectoryMode` of
/// fsutil).
const OF_MISSING: u16 = 0o755;

/// What a rule for modes is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file of a source, or anything else that is neither a directory nor a link.
    File,
    /// A directory of a source.
    Directory,
    /// A directory that is made because the path of the destination needs it, with 0755. BuildKit
    /// gives it the mode of an octal `--chmod`, but not the one of `--chmod=u+x`.
    Missing,
}

/// A rule for modes: returns the new permission bits of an entry with these.
pub type ModeRule<'a> = &'a dyn Fn(u16, Entry) -> u16;

/// Owner, modes and times of what is put.
#[derive(Clone, Copy, Default)]
pub struct Rule<'a> {
    /// User and group; `None` for those of each source, and for root where a directory is missing.
    pub owner: Option<(u32, u32)>,
    /// Rule for modes; `None` for those of each source. Links are not asked about. Set-id bits are
    /// kept if the rule keeps them, even with another owner.
    pub mode: Option<ModeRule<'a>>,
    /// Modification time of directories that are missing, in seconds since 1970.
    pub mtime_of_new_directories: i64,
}

/// Copies `sources` to `to`. Returns the paths of the files that were put one by one, without
/// leading `/`; links in them are not followed.
///
/// A directory gives its contents. A file goes into `to` if `to` ends with `/`, if there are
/// several sources, or if `to` is a directory; else it becomes `to`. If `to` is a link, the link is
/// followed, even if its target is missing. Missing directories are made; the one at `to` does not
/// take the mode of a source.
///
/// Hard links within one source stay hard links; a destination that had several names loses this
/// one.
///
/// # Errors
/// A file in place of a directory, or the reverse; both are named. A path that leads through a
/// file, or that is too long. After an error, the tree is useless.
pub fn copy(
    tree: &mut Tree,
    to: &[u8],
    sources: &[Selected],
    rule: &Rule<'_>,
) -> Result<Vec<Vec<u8>>> {
    let path = cleaned(to);
    let is_inside = sources.len() > 1 || is_named_as_directory(to);
    let mut put = Vec::new();
    for source in sources {
        if source.is_directory {
            let (top, length) = destination(tree, &path, rule).with_context(|| {
                let name: &[u8] = if source.name.is_empty() { b"." } else { &source.name };
                format!("copy the contents of directory {}", show(name))
            })?;
            Merge { tree, from: &source.tree, rule, clash: Clash::Refuse }
                .run(top, &path, length)?;
            continue;
        }
        for (name, &id) in source.tree.children(Tree::ROOT).into_iter().flatten() {
            let node = source.tree.node(id);
            let context = || format!("copy {} to /{}", show(name), show(&path));
            let at = copy_file(tree, &path, is_inside, (name, node), rule);
            put.push(at.with_context(context)?);
        }
    }
    Ok(put)
}

/// Merges an archive, which was read as a tree, into the directory at `to`, as `ADD` of a local
/// archive does. Links in `to` are followed; missing directories are made.
///
/// Files keep owners, modes and times of the archive, unless the rule says something else. Files
/// and directories replace each other. The destination itself keeps its metadata, as in BuildKit.
///
/// A tree does not tell directories that an archive only needs for the paths of its files. So a
/// directory with the metadata of such a one (0755, root, time 0) changes none that exists.
///
/// # Errors
/// A path that leads through a file, or that is too long. After an error, the tree is useless.
pub fn unpack(tree: &mut Tree, to: &[u8], archive: &Tree, rule: &Rule<'_>) -> Result<()> {
    let path = cleaned(to);
    let (top, length) = destination(tree, &path, rule)
        .with_context(|| format!("unpack an archive to /{}", show(&path)))?;
    Merge { tree, from: archive, rule, clash: Clash::Replace }.run(top, &path, length)
}

/// Puts one file, and returns its path.
fn copy_file(
    tree: &mut Tree,
    path: &[u8],
    is_inside: bool,
    (name, node): (&[u8], &Node),
    rule: &Rule<'_>,
) -> Result<Vec<u8>> {
    let is_inside = is_inside || tree.find_directory(path).is_some();
    let (parent, last, put) = if is_inside {
        let (parent, length) = destination(tree, path, rule)?;
        ensure_short(length, name)?;
        (parent, name.into(), joined(path, name))
    } else {
        let (parent, last) = place_of_file(tree, path, rule)?;
        (parent, last, path.to_vec())
    };
    if tree.child(parent, &last).is_some_and(|id| tree.children(id).is_some()) {
        bail!("/{} is a directory in the image, {} is a file", show(&put), show(name));
    }
    tree.add(parent, &last, rule.meta(node), node.kind.clone())?;
    Ok(put)
}

/// The directory and the name to which `path` leads, for a file. Missing directories are made.
fn place_of_file(tree: &mut Tree, path: &[u8], rule: &Rule<'_>) -> Result<(Id, Box<[u8]>)> {
    let mut last = None;
    let found = tree.follow_by(path, &mut |parent, name| last = Some((parent, name.into())))?;
    let Followed { at, length, mut missing } = found;
    let Some(name) = missing.pop() else {
        return last.context("the root is a directory");
    };
    let (parent, length) = make(tree, at, length, missing, rule)?;
    ensure_short(length, &name)?;
    Ok((parent, name))
}

/// The directory at `path`, which is made if it is missing, and the bytes of its own path.
fn destination(tree: &mut Tree, path: &[u8], rule: &Rule<'_>) -> Result<(Id, usize)> {
    let Followed { at, length, missing } = tree.follow_by(path, &mut |_, _| ())?;
    ensure!(tree.children(at).is_some(), "/{} is a file in the image", show(path));
    make(tree, at, length, missing, rule)
}

/// Makes directories, one in the other, from `at` on. Returns the last one.
fn make(
    tree: &mut Tree,
    mut at: Id,
    mut length: usize,
    names: Vec<Box<[u8]>>,
    rule: &Rule<'_>,
) -> Result<(Id, usize)> {
    let (uid, gid) = rule.owner.unwrap_or_default();
    let permissions = rule.permissions(OF_MISSING, Entry::Missing);
    let mtime = rule.mtime_of_new_directories;
    for name in names {
        length = ensure_short(length, &name)?;
        let meta = Meta { permissions, uid, gid, mtime, ..Meta::default() };
        at = tree.add(at, &name, meta, crate::tree::directory())?;
    }
    Ok((at, length))
}

/// The length of a path with one more name. A limit keeps the tree from becoming too deep.
fn ensure_short(length: usize, name: &[u8]) -> Result<usize> {
    let length = length + 1 + name.len();
    ensure!(length <= PATH_MAX, "the path has more than {PATH_MAX} bytes");
    Ok(length)
}

/// Whether the last part of a path says that it is a directory.
fn is_named_as_directory(path: &[u8]) -> bool {
    let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}

/// A path without `.` and `..`, and without a leading `/`. `..` does not lead above the root.
fn cleaned(path: &[u8]) -> Vec<u8> {
    let mut names = Vec::new();
    for name in components(path) {
        match name {
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join(&b'/')
}

impl Rule<'_> {
    fn permissions(&self, own: u16, entry: Entry) -> u16 {
        self.mode.map_or(own, |mode| mode(own, entry) & 0o7777)
    }

    /// The metadata of a node of a source after it was put.
    fn meta(&self, node: &Node) -> Meta {
        let mut meta = node.meta.clone();
        (meta.uid, meta.gid) = self.owner.unwrap_or((meta.uid, meta.gid));
        meta.permissions = match node.kind {
            Kind::Symlink(_) => meta.permissions,
            Kind::Directory(_) => self.permissions(meta.permissions, Entry::Directory),
            _ => self.permissions(meta.permissions, Entry::File),
        };
        meta
    }
}

#[cfg(test)]
mod tests;
