//! Who gets which inode, and how many blocks are needed.
//!
//! Nothing is written here: what cannot be an ext4 file system is found out.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use anyhow::{Context, Result, ensure};

use super::bytes::{BLOCK, ZEROS};
use super::dirents::{self, Entry};
use super::geometry::{Geometry, Need};
use super::htree::Directory;
use super::{Options, Size, extents, inode, journal, xattrs};
use crate::tree::holes::Input;
use crate::tree::{Content, Id, Kind, Node, Tree};

/// The directory for what e2fsck(8) finds without a name.
pub(super) const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Blocks of one that we make, so that it can be filled when nothing is free.
pub(super) const LOST_AND_FOUND_BLOCKS: u32 = 4;

/// Names of a file, and directories in a directory (`EXT4_LINK_MAX`, fs/ext4/ext4.h).
pub(super) const LINKS_MAX: u16 = 65_000;

/// Bytes of a symbolic link that fits into the inode; a NUL ends it.
pub(super) const FAST_LINK_MAX: usize = inode::MAP - 1;

/// A file system to be written.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its groups.
    pub(super) geometry: Geometry,
    /// Blocks of the journal.
    pub(super) journal: u32,
    /// Its nodes in the order of their inodes; the root first.
    pub(super) order: Vec<Place>,
    /// The last inode that is used.
    pub(super) last_inode: u32,
    /// Inodes of all nodes.
    pub(super) numbers: HashMap<Id, u32>,
    /// The inode of a `lost+found` that the tree does not have.
    pub(super) lost_and_found: Option<u32>,
}

/// A node and the inode of the directory that it was found in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: Id,
    pub(super) parent: u32,
}

impl Plan {
    /// Plans the file system of a tree.
    ///
    /// # Errors
    /// What ext4 cannot hold, with the path; a tree that is too large for the
    /// size that is wanted.
    pub(super) fn new(tree: &Tree, options: &Options) -> Result<Self> {
        let lost_and_found = match tree.child(Tree::ROOT, LOST_AND_FOUND) {
            None => Some(inode::FIRST),
            Some(id) => {
                let is_directory = tree.children(id).is_some();
                ensure!(is_directory, "lost+found is not a directory: e2fsck needs one");
                None
            }
        };
        let (order, numbers) = number(tree, inode::FIRST + u32::from(lost_and_found.is_some()))?;
        let geometry = Geometry { blocks: 0, groups: 0, inodes_per_group: 0, descriptor_blocks: 0 };
        let last_inode = numbers.values().copied().max().unwrap_or_default().max(inode::FIRST);
        let mut plan = Self { geometry, journal: 0, order, last_inode, numbers, lost_and_found };
        let mut blocks = lost_and_found.map_or(0, |_| u64::from(LOST_AND_FOUND_BLOCKS));
        for place in &plan.order {
            let needed = plan.blocks(tree, place.id, options);
            blocks += needed.with_context(|| tree.show_path_of(place.id))?;
        }
        // The journal's extents are few: at most one node of its tree.
        let need = Need { blocks: blocks + 1, inodes: last_inode.into() };
        plan.geometry = match options.size {
            Size::Exact(bytes) => need.within(bytes / BLOCK as u64)?,
            Size::Slack { percent, bytes } => {
                let part = blocks.saturating_mul(percent.into()) / 100;
                let slack = part.saturating_add(bytes.div_ceil(BLOCK as u64));
                let blocks = need.blocks.saturating_add(slack);
                Need { blocks, ..need }.smallest()?
            }
        };
        plan.journal = journal::blocks(plan.geometry.blocks);
        Ok(plan)
    }

    /// The names of directory `id` with their inodes.
    pub(super) fn directory<'a>(
        &self,
        tree: &'a Tree,
        id: Id,
        options: &Options,
    ) -> Result<Directory<'a>> {
        let added = self.lost_and_found.filter(|_| id == Tree::ROOT);
        let added =
            added.map(|inode| Entry { name: LOST_AND_FOUND, inode, kind: dirents::DIRECTORY });
        let names = tree.children(id).into_iter().flatten().map(|(name, &child)| Entry {
            name,
            inode: self.numbers.get(&child).copied().unwrap_or_default(),
            kind: dirents::kind(&tree.node(child).kind),
        });
        Directory::new(names.chain(added).collect(), options.hash_seed())
    }

    /// Data blocks of a node at most; checks what ext4 demands of it.
    fn blocks(&self, tree: &Tree, id: Id, options: &Options) -> Result<u64> {
        let node = tree.node(id);
        let own = match &node.kind {
            Kind::Directory(_) => with_nodes(self.directory(tree, id, options)?.blocks() as u64, 1),
            Kind::File(content) => content_blocks(content)?,
            Kind::Symlink(target) => link_blocks(target)?,
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                ensure!(*major < 1 << 12 && *minor < 1 << 20, "no device {major}:{minor}");
                0
            }
            Kind::Fifo | Kind::Socket => 0,
        };
        check_links(node)?;
        let has_block = xattrs::encode(&node.meta.xattrs)?.block.is_some();
        Ok(own + u64::from(has_block))
    }
}

/// Nodes in the order of their inodes, breadth first: those of a directory follow
/// each other. The root is first, the others get the inodes from `first` on.
fn number(tree: &Tree, first: u32) -> Result<(Vec<Place>, HashMap<Id, u32>)> {
    let mut order = vec![Place { id: Tree::ROOT, parent: inode::ROOT }];
    let mut numbers = HashMap::from([(Tree::ROOT, inode::ROOT)]);
    let mut next = first;
    for index in 0.. {
        let Some(&Place { id, .. }) = order.get(index) else { break };
        let parent = numbers.get(&id).copied().unwrap_or_default();
        for &id in tree.children(id).into_iter().flat_map(|children| children.values()) {
            if let Slot::Vacant(slot) = numbers.entry(id) {
                slot.insert(next);
                order.push(Place { id, parent });
                next = next.checked_add(1).context("more files than ext4 has inodes")?;
            }
        }
    }
    Ok((order, numbers))
}

fn check_links(node: &Node) -> Result<()> {
    let fits = node.names <= LINKS_MAX.into() || matches!(node.kind, Kind::Directory(_));
    ensure!(fits, "{} names; ext4 allows a file {LINKS_MAX}", node.names);
    Ok(())
}

fn link_blocks(target: &[u8]) -> Result<u64> {
    let fits = !target.is_empty() && target.len() < BLOCK && !target.contains(&0);
    ensure!(fits, "a symbolic link has 1-4095 bytes, without NUL");
    Ok(u64::from(target.len() > FAST_LINK_MAX))
}

/// Blocks of a file and of its extent tree, at most.
fn content_blocks(content: &Content) -> Result<u64> {
    /// Where holes are worth that the file is read twice.
    const LARGE: u64 = 64 << 20;
    let size = content.size();
    let all = size.div_ceil(BLOCK as u64);
    ensure!(all < u32::MAX.into(), "a file of {size} bytes; in ext4 it is below 16 TiB");
    let (data, pieces) = match size >= LARGE {
        // The image must not depend on whether the source stores zeros.
        true => count(content)?,
        // Each hole saves more than the extent that it costs.
        false => (all, 1),
    };
    Ok(with_nodes(data, pieces))
}

/// Blocks of so many data in so many pieces, and of their extent tree, at most.
fn with_nodes(data: u64, pieces: u64) -> u64 {
    /// Blocks in a row that no two ends of groups can cut.
    const PIECE: u64 = 1 << 14;
    data + extents::nodes(pieces + 1 + data / PIECE)
}

/// The number of blocks that are not zero, and of the runs that they form.
fn count(content: &Content) -> Result<(u64, u64)> {
    let (mut data, mut pieces, mut next) = (0, 0, None);
    for_blocks(content, &mut |at, block| {
        if *block != ZEROS {
            data += 1;
            pieces += u64::from(next != Some(at));
            next = at.checked_add(1);
        }
        Ok(())
    })?;
    Ok((data, pieces))
}

/// Calls `visit` with number and bytes of each block of a file that the source stores.
/// Such a block may be zero; all others are.
pub(super) fn for_blocks(
    content: &Content,
    visit: &mut dyn FnMut(u32, &[u8; BLOCK]) -> Result<()>,
) -> Result<()> {
    /// Bytes read at a time.
    const CHUNK: usize = 64 * BLOCK;
    let mut input = Input::open(content)?;
    let room = usize::try_from(content.size()).unwrap_or(CHUNK).min(CHUNK);
    let mut buffer = vec![0; room.next_multiple_of(BLOCK)];
    loop {
        input.skip_blocks(BLOCK as u64)?;
        let at = u32::try_from(input.at() / BLOCK as u64)?;
        let length = input.read_some(&mut buffer).context("its contents")?.len();
        if length == 0 {
            return Ok(());
        }
        let padded = length.next_multiple_of(BLOCK);
        buffer[length..padded].fill(0);
        let (blocks, _) = buffer[..padded].as_chunks();
        for (number, block) in (at..).zip(blocks) {
            visit(number, block)?;
        }
    }
}
