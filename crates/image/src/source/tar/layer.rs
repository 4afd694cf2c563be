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
//! - A directory without a member of its own keeps the attributes that it has below, or is
//!   made as [`LayerOptions`] say.
//!
//! Nothing touches the file system of the host, and no member leaves the tree.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;

use super::members::{Entry, Member, TarMembers};
use crate::tree::{Id, Kind, Tree, components, show};

/// Beginning of the name of a whiteout.
const WHITEOUT: &[u8] = b".wh.";
/// Beginning of the names that aufs uses for itself.
const OF_AUFS: &[u8] = b".wh..wh.";
/// Name of the mark that hides all children that a directory has below.
const OPAQUE: &[u8] = b".wh..wh..opq";

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
/// below it.
///
/// # Errors
/// Damage, with its offset; a member whose path contains `..` or leads through a circle of
/// links; a hard link without a target; a whiteout without a name. Then the tree is useless.
pub fn apply(
    archive: &Arc<File>,
    tree: &mut Tree,
    options: &LayerOptions,
    notes: &mut Notes,
) -> Result<()> {
    let LayerNames { whiteouts, replaced_links } = LayerNames::read(archive, tree)?;
    for whiteout in &whiteouts {
        hide(tree, whiteout, &replaced_links);
    }
    let mut members = TarMembers::new(archive)?;
    while let Some(Member { at, path, entry }) = members.next(notes)? {
        if is_mark(&path) {
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

/// The names in a layer that decide what happens to the layers below.
#[derive(Debug, Default)]
struct LayerNames {
    whiteouts: Vec<Whiteout>,
    /// Paths of links below that the layer has a member for, without `.` and repeated slashes.
    replaced_links: BTreeSet<Vec<u8>>,
}

impl LayerNames {
    fn read(archive: &Arc<File>, tree: &Tree) -> Result<Self> {
        let mut found = Self::default();
        // The second pass reads the same members and reports the same notes.
        let mut unused = Notes::default();
        let mut members = TarMembers::new(archive)?;
        while let Some(Member { at, path, .. }) = members.next(&mut unused)? {
            let taken = found.take(&path, tree);
            taken.with_context(|| format!("member at offset {at}: {}", show(&path)))?;
        }
        Ok(found)
    }

    fn take(&mut self, path: &[u8], tree: &Tree) -> Result<()> {
        let mut names: Vec<_> = components(path).collect();
        let Some(last) = names.pop() else { return Ok(()) };
        let Some(hidden) = last.strip_prefix(WHITEOUT) else {
            let node = tree.find(path).map(|id| &tree.node(id).kind);
            if let Some(Kind::Symlink(_)) = node {
                names.push(last);
                self.replaced_links.insert(names.join(&b'/'));
            }
            return Ok(());
        };
        let name = match last {
            OPAQUE => None,
            _ if last.starts_with(OF_AUFS) => return Ok(()),
            _ => Some(hidden.to_vec()),
        };
        ensure!(
            name.as_deref().is_none_or(|name| !matches!(name, b"" | b"." | b"..")),
            "a whiteout that names no file"
        );
        self.whiteouts.push(Whiteout { directory: names.join(&b'/'), name });
        Ok(())
    }
}

/// Whether `path` is that of a whiteout or another mark, or is below one. The prefix is
/// reserved: no file of an image has it.
fn is_mark(path: &[u8]) -> bool {
    components(path).any(|name| name.starts_with(WHITEOUT))
}

/// Removes what `whiteout` hides. If the layer replaces a link above the whiteout, the whiteout
/// is not about the directory to which that link leads.
fn hide(tree: &mut Tree, whiteout: &Whiteout, replaced_links: &BTreeSet<Vec<u8>>) {
    let mut above: &[u8] = &whiteout.directory;
    while !above.is_empty() {
        if replaced_links.contains(above) {
            return;
        }
        let end = above.iter().rposition(|&byte| byte == b'/');
        above = &above[..end.unwrap_or(0)];
    }
    let Some((directory, _)) = tree.find_directory(&whiteout.directory) else { return };
    match &whiteout.name {
        Some(name) => tree.remove(directory, name),
        None => {
            let children = tree.children(directory).into_iter().flatten();
            let names: Vec<_> = children.map(|(name, _)| name.clone()).collect();
            for name in names {
                tree.remove(directory, &name);
            }
        }
    }
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
    let mut above = Vec::new();
    for name in names {
        let Some((directory, _)) = tree.find_directory(&above) else { return };
        above = [&above[..], name].join(&b'/');
        let is_file = tree.resolve(&above).is_ok_and(|id| tree.children(id).is_none());
        if is_file {
            tree.remove(directory, name);
        }
    }
}

/// The directory to which the link at `path` leads, if there is one.
fn linked_directory(tree: &Tree, path: &[u8]) -> Option<Id> {
    let link = tree.find_member(path)?;
    let is_link = matches!(tree.node(link).kind, Kind::Symlink(_));
    is_link.then(|| tree.find_directory(path))?.map(|(id, _)| id)
}
