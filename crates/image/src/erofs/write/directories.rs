//! Directories of an image: they get their positions first and are written last.
//!
//! Format: see `layout::dirents`. The size of a directory follows from its names, so its
//! position is known before any file is written. The nids of its files are known only at
//! the end.

use anyhow::{Context, Result};

use super::gaps::{Boundary, InodeArea};
use super::head::InodeHead;
use super::out::{FIRST_BLOCK, ImageWriter, address};
use crate::erofs::layout::dirents::{self, NamedNode};
use crate::erofs::layout::inode::DataLayout;
use crate::erofs::layout::units::{BLOCK, BLOCK_BYTES};
use crate::tree::{Id, Tree, components, show};

/// Directory with its position in the image.
#[derive(Debug)]
pub(super) struct PlacedDirectory {
    /// Node of the directory.
    pub id: Id,
    parent: Id,
    /// Position of the inode, in bytes from [`FIRST_BLOCK`].
    pub position: usize,
    /// First block of the names. The last names may follow the inode instead.
    first_block: u64,
}

/// Places all directories of `tree`, the root first. Returns them with the first block
/// after them.
///
/// # Errors
/// EROFS cannot hold the metadata of a directory.
pub(super) fn plan(tree: &Tree, time: i64) -> Result<(Vec<PlacedDirectory>, u64)> {
    let (mut directories, mut area) = (Vec::new(), InodeArea::default());
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
        let boundary = match layout {
            DataLayout::FlatInline => Boundary::Avoid,
            _ => Boundary::Cross,
        };
        let position = area.take(head.len(time) + tail, boundary);
        directories.push(PlacedDirectory { id, parent, position, first_block: 0 });
        blocks.push((head.inode.size - tail as u64).div_ceil(BLOCK_BYTES));
        Ok(())
    })?;
    let mut next = FIRST_BLOCK + area.len().div_ceil(BLOCK) as u64;
    for (directory, blocks) in directories.iter_mut().zip(blocks) {
        directory.first_block = next;
        next += blocks;
    }
    Ok((directories, next))
}

/// Writes a directory into `out`, where all inodes have their positions.
pub(super) fn write(
    tree: &Tree,
    directory: &PlacedDirectory,
    out: &ImageWriter,
    time: i64,
) -> Result<()> {
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
    out.write_at(&inode, FIRST_BLOCK * BLOCK_BYTES + directory.position as u64)
}

/// Head of a directory, with its link count and size.
fn directory_head(tree: &Tree, id: Id, parent: Id) -> Result<InodeHead> {
    let mut head = InodeHead::new(tree.node(id))?;
    let children = tree.children(id).into_iter().flatten();
    let is_directory = |(_, child): &(_, &Id)| tree.children(**child).is_some();
    head.inode.links = u32::try_from(2 + children.filter(is_directory).count())?;
    head.inode.size = dirents::size(&names(tree, id, parent));
    Ok(head)
}

/// Names of a directory in byte order, with `.` and `..`.
fn names(tree: &Tree, id: Id, parent: Id) -> Vec<NamedNode<'_>> {
    let children = tree.children(id).into_iter().flatten();
    let mut names: Vec<NamedNode> = children.map(|(name, child)| (&**name, *child)).collect();
    for (name, id) in [(&b"."[..], id), (b"..", parent)] {
        let index = names.partition_point(|(other, _)| *other < name);
        names.insert(index, (name, id));
    }
    names
}
