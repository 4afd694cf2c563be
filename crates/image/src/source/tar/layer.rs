//! Applying a layer of an OCI image to a tree.
//!
//! Format: a tar archive in which names that begin with `.wh.` mark what the layers below
//! lose (OCI image specification, `layer.md`, "Whiteouts").
//!
//! - Whiteouts hit the layers below and never members of their own layer, whatever the order
//!   of the members is. So they are applied first, in a pass of its own.
//! - A directory on a directory replaces its attributes; its children stay. Any other member
//!   replaces what has its name, a directory with all its children.
//! - Links above a member are followed within the tree, as tar(1) does. A link that is the
//!   member itself is replaced.
//! - Members that eStargz adds for itself are left out, with a note. They are no part of the
//!   image: the same image without eStargz does not have them.
//! - The first two blocks of zeros end the layer, as for the programs that write images.
//! - A directory without a member of its own keeps the attributes that it has below, or is
//!   made as [`LayerOptions`] say.
//!
//! Nothing touches the file system of the host, and no member leaves the tree. The contents
//! stay in the archive. A file, directory or link takes about 180 bytes of memory, and a
//! directory that only paths of other members name about 350; [`MEMORY_MAX`] bounds them.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;

use super::blocks::Reading;
use super::budget::Budget;
use super::members::{Entry, Member, TarMembers};
#[cfg(doc)]
use crate::tree::MEMORY_MAX;
use crate::tree::{Id, Kind, Tree, components, show};

/// Beginning of the name of a whiteout.
const WHITEOUT: &[u8] = b".wh.";
/// Beginning of the names that aufs uses for itself.
const OF_AUFS: &[u8] = b".wh..wh.";
/// Name of the mark that hides all children that a directory has below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Most bytes of memory for the whiteouts of one layer: several hundred thousand of them.
const MARKS_MAX: usize = 256 << 20;
/// Bytes that a whiteout needs besides its path, which is kept twice.
const MARK: usize = 200;

/// Names in the root of a layer that eStargz adds (`docs/estargz.md` of stargz-snapshotter,
/// "TOC", "Landmark entries"): its table of contents, and marks of what to read ahead.
const ESTARGZ_NAMES: [&[u8]; 3] =
    [b"stargz.index.json", b".prefetch.landmark", b".no.prefetch.landmark"];

const ESTARGZ: &str = "a member that eStargz uses for itself is left out";
const LINK_REPLACED: &str = "a directory replaces a link to a directory, whose files it hides";

/// How the members of a layer are placed.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerOptions {
    /// Time of a directory that no layer contains, in seconds since 1970: that of the image.
    pub time: i64,
    /// What a directory does to a link to a directory.
    pub links: DirectoryLinks,
}

/// What a directory of a layer does to a link to a directory that has its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectoryLinks {
    /// The directory replaces the link, as the specification says.
    #[default]
    Replace,
    /// The link stays, and the attributes go to the directory to which it leads.
    Keep,
}

/// Applies the layer `archive`, which must not be compressed, to the `tree` of the layers
/// below it. All layers of an image share one `budget`.
///
/// # Errors
/// Damage, with its offset; more than the `budget` or [`MEMORY_MAX`] allows; a
/// member whose path contains `..` or leads through a circle of
/// links; a hard link without a target, or to a directory; a whiteout without a name. An error
/// names the member. Then the tree is useless.
pub fn apply(
    archive: &Arc<File>,
    tree: &mut Tree,
    options: &LayerOptions,
    budget: &mut Budget,
    notes: &mut Notes,
) -> Result<()> {
    // The first pass reads the same attributes, and keeps none of them.
    LayerNames::read(archive, tree, options.links, &mut budget.clone())?.hide(tree);
    let mut members = TarMembers::new(archive, Reading::OfLayer, budget)?;
    while let Some(Member { at, path, entry }) = members.next(notes)? {
        if is_mark(&path) {
            continue;
        }
        if is_of_estargz(&path) {
            notes.add(ESTARGZ, &path);
            continue;
        }
        let placed = place(tree, &path, entry, options, notes);
        placed.with_context(|| format!("member at offset {at}: {}", show(&path)))?;
    }
    Ok(())
}

/// A whiteout: the directory in which it is, and the name that the directory loses; all
/// names if there is none.
#[derive(Debug)]
struct Whiteout {
    directory: Vec<u8>,
    name: Option<Vec<u8>>,
}

/// The names in a layer that decide what happens to the layers below. Paths are without `.` and
/// repeated slashes.
#[derive(Debug)]
struct LayerNames {
    whiteouts: Vec<Whiteout>,
    /// Paths that lead to something else in this layer than below: those of whiteouts, and of
    /// links that the layer replaces.
    hidden: BTreeSet<Vec<u8>>,
    /// Directories of which nothing is seen below.
    opaque: BTreeSet<Vec<u8>>,
    /// Bytes of memory that more paths may take.
    left: usize,
}

impl Default for LayerNames {
    fn default() -> Self {
        let (hidden, opaque) = (BTreeSet::new(), BTreeSet::new());
        Self { whiteouts: Vec::new(), hidden, opaque, left: MARKS_MAX }
    }
}

impl LayerNames {
    fn read(
        archive: &Arc<File>,
        tree: &Tree,
        links: DirectoryLinks,
        budget: &mut Budget,
    ) -> Result<Self> {
        let mut found = Self::default();
        // The second pass reads the same members and reports the same notes.
        let mut unused = Notes::default();
        let mut members = TarMembers::new(archive, Reading::OfLayer, budget)?;
        while let Some(Member { at, path, entry }) = members.next(&mut unused)? {
            let taken = found.take(&path, &entry, tree, links);
            taken.with_context(|| format!("member at offset {at}: {}", show(&path)))?;
        }
        Ok(found)
    }

    fn take(
        &mut self,
        path: &[u8],
        entry: &Entry,
        tree: &Tree,
        links: DirectoryLinks,
    ) -> Result<()> {
        let Some((directory, last)) = split(path) else { return Ok(()) };
        let Some(name) = last.strip_prefix(WHITEOUT) else {
            if replaces_link(tree, &directory, last, entry, links) {
                self.make_room(path)?;
                self.hidden.insert(join(&directory, last));
            }
            return Ok(());
        };
        self.make_room(path)?;
        if last == OPAQUE {
            self.opaque.insert(directory.clone());
            self.whiteouts.push(Whiteout { directory, name: None });
        } else if !last.starts_with(OF_AUFS) {
            ensure!(!matches!(name, b"" | b"." | b".."), "a whiteout that names no file");
            self.hidden.insert(join(&directory, name));
            self.whiteouts.push(Whiteout { directory, name: Some(name.to_vec()) });
        }
        Ok(())
    }

    /// Counts the memory that a `path` takes.
    fn make_room(&mut self, path: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(MARK + 2 * path.len());
        let too_many = || format!("whiteouts need more than {} MiB of memory", MARKS_MAX >> 20);
        self.left = left.with_context(too_many)?;
        Ok(())
    }

    /// Removes what the whiteouts hide from the `tree` of the layers below. The order of the
    /// whiteouts does not matter, because all are looked up before anything is removed.
    fn hide(self, tree: &mut Tree) {
        let find = |whiteout: &Whiteout| {
            let is_of_lower = !self.hides_above(&whiteout.directory);
            is_of_lower.then(|| tree.find_directory(&whiteout.directory))?.map(|(id, _)| id)
        };
        let directories: Vec<_> = self.whiteouts.iter().map(find).collect();
        for (whiteout, directory) in self.whiteouts.iter().zip(directories) {
            match (directory, &whiteout.name) {
                (Some(id), Some(name)) => tree.remove(id, name),
                (Some(id), None) => tree.remove_children(id),
                (None, _) => {}
            }
        }
    }

    /// Whether the layer hides `path` or a name above it. Then a whiteout in `path` is not about
    /// what the layers below have there, nor about the directory to which a link there leads.
    fn hides_above(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let mut above: &[u8] = b"";
        ends.chain([path.len()]).any(|end| {
            let is_hidden =
                self.hidden.contains(&path[..end]) || end > 0 && self.opaque.contains(above);
            above = &path[..end];
            is_hidden
        })
    }
}

/// The directory part of `path`, without `.` and repeated slashes, and the last name; `None`
/// for the root.
fn split(path: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut names: Vec<_> = components(path).collect();
    let last = names.pop()?;
    Some((names.join(&b'/'), last))
}

/// The path of `name` in `directory`.
fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// Whether the name `last` is a link in the layers below, and a member is something else.
fn replaces_link(
    tree: &Tree,
    directory: &[u8],
    last: &[u8],
    entry: &Entry,
    links: DirectoryLinks,
) -> bool {
    let below = tree.find_directory(directory).and_then(|(parent, _)| tree.child(parent, last));
    let Some(Kind::Symlink(target)) = below.map(|id| &tree.node(id).kind) else { return false };
    match entry {
        Entry::Node(_, Kind::Symlink(again)) => again != target,
        Entry::Node(_, Kind::Directory(_)) => {
            links == DirectoryLinks::Replace
                || tree.find_directory(&join(directory, last)).is_none()
        }
        _ => true,
    }
}

/// Whether `path` is that of a whiteout or another mark, or is below one. The prefix is
/// reserved: no file of an image has it.
fn is_mark(path: &[u8]) -> bool {
    components(path).any(|name| name.starts_with(WHITEOUT))
}

/// Whether the member is one that eStargz adds to a layer for its own readers.
fn is_of_estargz(path: &[u8]) -> bool {
    split(path)
        .is_some_and(|(directory, name)| directory.is_empty() && ESTARGZ_NAMES.contains(&name))
}

fn place(
    tree: &mut Tree,
    path: &[u8],
    entry: Entry,
    options: &LayerOptions,
    notes: &mut Notes,
) -> Result<()> {
    if let Entry::Node(meta, Kind::Directory(_)) = &entry
        && let Some(target) = linked_directory(tree, path)
    {
        if options.links == DirectoryLinks::Keep {
            tree.node_mut(target).meta = meta.clone();
            return Ok(());
        }
        notes.add(LINK_REPLACED, path);
    }
    clear_way(tree, path);
    let first_new = tree.len();
    super::put(tree, path, entry)?;
    // The new nodes are the member and the directories above it that no layer contains.
    let own = tree.find_member(path);
    for id in tree.ids_from(first_new).filter(|id| Some(*id) != own) {
        tree.node_mut(id).meta.mtime = options.time;
    }
    Ok(())
}

/// Removes the first file above `path` that is not a directory, nor a link to one.
fn clear_way(tree: &mut Tree, path: &[u8]) {
    let mut names: Vec<_> = components(path).collect();
    names.pop();
    if tree.find_directory(&names.join(&b'/')).is_some() {
        return;
    }
    let mut directory = Tree::ROOT;
    for (at, name) in names.iter().enumerate() {
        let Some(found) = tree.child(directory, name) else { return };
        if tree.children(found).is_some() {
            directory = found;
            continue;
        }
        let above = names[..=at].join(&b'/');
        match tree.resolve(&above) {
            Ok(target) if tree.children(target).is_some() => directory = target,
            Ok(_) => return tree.remove(directory, name),
            Err(_) => return,
        }
    }
}

/// The directory to which the link at `path` leads, if there is one.
fn linked_directory(tree: &Tree, path: &[u8]) -> Option<Id> {
    let link = tree.find_member(path)?;
    let is_link = matches!(tree.node(link).kind, Kind::Symlink(_));
    is_link.then(|| tree.find_directory(path))?.map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, directory};

    #[test]
    fn whiteouts_are_bounded() {
        let tree = Tree::new(Meta::default());
        let mut names =
            LayerNames { left: 3 * (MARK + 2 * b"d/.wh.a".len()), ..Default::default() };
        let mut take = |path: &str| {
            let entry = Entry::Node(Meta::default(), directory());
            names.take(path.as_bytes(), &entry, &tree, DirectoryLinks::Replace)
        };
        for path in ["d/.wh.a", "d/.wh.a", "d", "d/.wh.b", "d/file"] {
            take(path).unwrap();
        }
        let error = take("d/.wh..wh..opq").unwrap_err();
        assert!(error.to_string().contains("more than 256 MiB"), "{error:#}");
    }
}
