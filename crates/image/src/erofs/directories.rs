//! Directories of an image: placed before everything else, written after it.
//!
//! How long a directory is follows from its names, so each has its place before
//! any file has; what it says of its files, their nids, is known at the end.

use anyhow::{Context, Result};

use super::dirents::{self, Name};
use super::inode::Layout;
use super::layout::{BLOCK, BLOCK_BYTES};
use super::out::{FIRST_BLOCK, Head, Out, address};
use super::place::{Borders, Places};
use super::write::head;
use crate::tree::{Id, Tree, components, show};

/// A directory that has a place.
#[derive(Debug)]
pub(super) struct Directory {
    pub id: Id,
    parent: Id,
    /// Where its inode is, in bytes from [`FIRST_BLOCK`].
    pub place: usize,
    /// Where its names are, but those behind the inode.
    first_block: u64,
}

/// All directories of `tree`, the root first, and the first block after them.
///
/// # Errors
/// Metadata that the format cannot hold.
pub(super) fn plan(tree: &Tree, time: i64) -> Result<(Vec<Directory>, u64)> {
    let (mut directories, mut places) = (Vec::new(), Places::default());
    let mut blocks = Vec::new();
    let mut above: Vec<Id> = Vec::new();
    tree.walk(&mut |path, id| {
        if tree.children(id).is_none() {
            return Ok(());
        }
        above.truncate(components(path).count());
        let parent = above.last().copied().unwrap_or(id);
        above.push(id);
        let head = directory_head(tree, id, parent).with_context(|| show(path))?;
        let (layout, tail) = head.tail(time);
        let borders = if layout == Layout::Inline { Borders::Avoid } else { Borders::Cross };
        let place = places.take(head.len(time) + tail, borders);
        directories.push(Directory { id, parent, place, first_block: 0 });
        blocks.push((head.inode.size - tail as u64).div_ceil(BLOCK_BYTES));
        Ok(())
    })?;
    let mut next = FIRST_BLOCK + places.len().div_ceil(BLOCK) as u64;
    for (directory, blocks) in directories.iter_mut().zip(blocks) {
        directory.first_block = next;
        next += blocks;
    }
    Ok((directories, next))
}

/// Writes one of them into `out`, in which all inodes have places.
pub(super) fn write(tree: &Tree, directory: &Directory, out: &Out, time: i64) -> Result<()> {
    let mut head = directory_head(tree, directory.id, directory.parent)?;
    let (layout, tail) = head.tail(time);
    head.inode.layout = layout;
    head.inode.union = address(directory.first_block)?;
    let mut inode = head.encode(time);
    let look = |id| (out.nid(id), dirents::kind(&tree.node(id).kind));
    let mut at = directory.first_block * BLOCK_BYTES;
    let names = names(tree, directory.id, directory.parent);
    let mut blocks = dirents::blocks(&names).peekable();
    while let Some(block) = blocks.next() {
        let bytes = dirents::encode(block, &look);
        if tail > 0 && blocks.peek().is_none() {
            inode.extend_from_slice(&bytes);
        } else {
            out.write_at(&bytes, at)?;
            at += BLOCK_BYTES;
        }
    }
    out.write_at(&inode, FIRST_BLOCK * BLOCK_BYTES + directory.place as u64)
}

fn directory_head(tree: &Tree, id: Id, parent: Id) -> Result<Head> {
    let mut head = head(tree.node(id))?;
    let children = tree.children(id).into_iter().flatten();
    let is_directory = |(_, child): &(_, &Id)| tree.children(**child).is_some();
    head.inode.links = u32::try_from(2 + children.filter(is_directory).count())?;
    head.inode.size = dirents::size(&names(tree, id, parent));
    Ok(head)
}

/// The names in a directory, `.` and `..` among them, in byte order.
fn names(tree: &Tree, id: Id, parent: Id) -> Vec<Name<'_>> {
    let children = tree.children(id).into_iter().flatten();
    let mut names: Vec<Name> = children.map(|(name, child)| (&**name, *child)).collect();
    for (name, id) in [(&b"."[..], id), (b"..", parent)] {
        let place = names.partition_point(|(other, _)| *other < name);
        names.insert(place, (name, id));
    }
    names
}
