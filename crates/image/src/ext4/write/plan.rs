//! Plan of a file system: the inode of each node, and the number of blocks.
//!
//! Format: see `layout`. The plan writes nothing. It refuses a tree that ext4 cannot hold.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use anyhow::{Context, Result, ensure};

use super::extent_tree;
use super::geometry::{Geometry, SpaceNeed};
use super::htree::DirectoryLayout;
use super::journal;
use crate::ext4::layout::bytes::{BLOCK, ZEROS};
use crate::ext4::layout::dirents::{self, DirEntry, LOST_AND_FOUND};
use crate::ext4::layout::{inode, xattrs};
use crate::ext4::options::{Ext4Options, Ext4Size};
use crate::tree::holes::Input;
use crate::tree::{Content, Id, Kind, Node, Tree};

/// Blocks of a `lost+found` that we add. e2fsck(8) needs room in it even if no block is
/// free.
pub(super) const LOST_AND_FOUND_BLOCKS: u32 = 4;

/// Most hard links of a file, and most subdirectories that a directory counts
/// (`EXT4_LINK_MAX`).
pub(super) const LINKS_MAX: u16 = 65_000;

/// Longest target of a symbolic link that is stored in `i_block`, where a NUL follows it.
pub(super) const FAST_LINK_MAX: usize = inode::BLOCK_MAP - 1;

/// Plan of a file system.
#[derive(Debug)]
pub(super) struct Ext4Plan {
    /// Groups of the file system.
    pub(super) geometry: Geometry,
    /// Number of blocks of the journal.
    pub(super) journal: u32,
    /// Nodes in the order of their inodes, the root first.
    pub(super) order: Vec<PlannedNode>,
    /// Last inode that is used.
    pub(super) last_inode: u32,
    /// Inode of each node.
    pub(super) numbers: HashMap<Id, u32>,
    /// Inode of the `lost+found` that we add; `None` if the tree has its own.
    pub(super) lost_and_found: Option<u32>,
}

/// Node with the inode of the directory that holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedNode {
    pub(super) id: Id,
    pub(super) parent: u32,
}

impl Ext4Plan {
    /// Plans the file system of a tree.
    ///
    /// # Errors
    /// ext4 cannot hold a node (the error names the path), or the tree does not fit into
    /// the requested size.
    pub(super) fn new(tree: &Tree, options: &Ext4Options) -> Result<Self> {
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
        for planned in &plan.order {
            let needed = plan.blocks(tree, planned.id, options);
            blocks += needed.with_context(|| tree.show_path_of(planned.id))?;
        }
        // The journal has few extents, so its tree has at most one node besides the root.
        let need =
            SpaceNeed { blocks: blocks + 1, inodes: last_inode.into(), journal: options.journal };
        plan.geometry = match options.size {
            Ext4Size::Exact(bytes) => need.within(bytes / BLOCK as u64)?,
            Ext4Size::Slack { percent, bytes } => {
                let part = blocks.saturating_mul(percent.into()) / 100;
                let slack = part.saturating_add(bytes.div_ceil(BLOCK as u64));
                let blocks = need.blocks.saturating_add(slack);
                SpaceNeed { blocks, ..need }.smallest()?
            }
        };
        plan.journal = journal::blocks(options.journal, plan.geometry.blocks);
        Ok(plan)
    }

    /// Layout of the directory `id`, with the inodes of its names.
    pub(super) fn directory<'a>(
        &self,
        tree: &'a Tree,
        id: Id,
        options: &Ext4Options,
    ) -> Result<DirectoryLayout<'a>> {
        let added = self.lost_and_found.filter(|_| id == Tree::ROOT);
        let added =
            added.map(|inode| DirEntry { name: LOST_AND_FOUND, inode, kind: dirents::DIRECTORY });
        let names = tree.children(id).into_iter().flatten().map(|(name, &child)| DirEntry {
            name,
            inode: self.numbers.get(&child).copied().unwrap_or_default(),
            kind: dirents::kind(&tree.node(child).kind),
        });
        DirectoryLayout::new(names.chain(added).collect(), options.hash_seed())
    }

    /// Most data blocks that a node may need.
    ///
    /// # Errors
    /// ext4 cannot hold the node.
    fn blocks(&self, tree: &Tree, id: Id, options: &Ext4Options) -> Result<u64> {
        let node = tree.node(id);
        let own = match &node.kind {
            Kind::Directory(_) => with_nodes(self.directory(tree, id, options)?.blocks() as u64, 1),
            Kind::File(content) => content_blocks(content)?,
            Kind::Symlink(target) => link_blocks(target)?,
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                ensure!(
                    *major < 1 << 12 && *minor < 1 << 20,
                    "ext4 cannot hold the device number {major}:{minor}"
                );
                0
            }
            Kind::Fifo | Kind::Socket => 0,
        };
        check_links(node)?;
        let has_block = xattrs::encode(&node.meta.xattrs)?.block.is_some();
        Ok(own + u64::from(has_block))
    }
}

/// Numbers the nodes breadth first, so the nodes of a directory have consecutive inodes. The
/// root comes first; all other nodes get the inodes from `first` on.
fn number(tree: &Tree, first: u32) -> Result<(Vec<PlannedNode>, HashMap<Id, u32>)> {
    let mut order = vec![PlannedNode { id: Tree::ROOT, parent: inode::ROOT }];
    let mut numbers = HashMap::from([(Tree::ROOT, inode::ROOT)]);
    let mut next = first;
    for index in 0.. {
        let Some(&PlannedNode { id, .. }) = order.get(index) else { break };
        let parent = numbers.get(&id).copied().unwrap_or_default();
        for &id in tree.children(id).into_iter().flat_map(|children| children.values()) {
            if let Slot::Vacant(slot) = numbers.entry(id) {
                slot.insert(next);
                order.push(PlannedNode { id, parent });
                next =
                    next.checked_add(1).context("the tree has more files than ext4 has inodes")?;
            }
        }
    }
    Ok((order, numbers))
}

/// Checks that a file has no more names than ext4 allows.
fn check_links(node: &Node) -> Result<()> {
    let fits = node.names <= LINKS_MAX.into() || matches!(node.kind, Kind::Directory(_));
    ensure!(fits, "the file has {} names, and ext4 allows {LINKS_MAX}", node.names);
    Ok(())
}

/// Number of blocks of a symbolic link.
fn link_blocks(target: &[u8]) -> Result<u64> {
    let fits = !target.is_empty() && target.len() < BLOCK && !target.contains(&0);
    ensure!(fits, "the target of a symbolic link must have 1-4095 bytes and no NUL");
    Ok(u64::from(target.len() > FAST_LINK_MAX))
}

/// Most blocks that a file and its extent tree may need.
fn content_blocks(content: &Content) -> Result<u64> {
    /// Size in bytes from which a file is read twice to find its holes.
    const LARGE: u64 = 64 << 20;
    let size = content.size();
    let all = size.div_ceil(BLOCK as u64);
    ensure!(
        all < u32::MAX.into(),
        "a file of {size} bytes: a file in ext4 must be smaller than 16 TiB"
    );
    let (data, pieces) = match size >= LARGE {
        // Count zeros as holes even if the source stores them, so that all sources give
        // equal images.
        true => count(content)?,
        // A hole saves more blocks than its extent may cost.
        false => (all, 1),
    };
    Ok(with_nodes(data, pieces))
}

/// Most blocks that `data` data blocks in `pieces` pieces and their extent tree may need.
fn with_nodes(data: u64, pieces: u64) -> u64 {
    /// Number of consecutive blocks that contain the end of at most one group.
    const PIECE: u64 = 1 << 14;
    data + extent_tree::nodes(pieces + 1 + data / PIECE)
}

/// Number of blocks that are not zero, and number of runs that they form.
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

/// Calls `visit` with the number and the bytes of each block of a file that the source
/// stores. A stored block may be zero; a block that is not stored is zero.
pub(super) fn for_blocks(
    content: &Content,
    visit: &mut dyn FnMut(u32, &[u8; BLOCK]) -> Result<()>,
) -> Result<()> {
    /// Number of bytes that are read at once.
    const CHUNK: usize = 64 * BLOCK;
    let mut input = Input::open(content)?;
    let room = usize::try_from(content.size()).unwrap_or(CHUNK).min(CHUNK);
    let mut buffer = vec![0; room.next_multiple_of(BLOCK)];
    loop {
        input.skip_blocks(BLOCK as u64)?;
        let at = u32::try_from(input.at() / BLOCK as u64)?;
        let length = input.read_some(&mut buffer).context("read its contents")?.len();
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
