//! Extent trees: which blocks of a file are where.
//!
//! Format: kernel doc filesystems/ext4/ifork.rst, "Extent Tree". A node is a
//! header and entries of 12 bytes; the root is in the inode, with room for 4
//! entries, any other is a block with a checksum behind its 340.
//!
//! | | At | Bytes | Field |
//! |---|---|---|---|
//! | header | 0 | 2 | magic |
//! | | 2 | 2 | entries |
//! | | 4 | 2 | room for entries |
//! | | 6 | 2 | levels below: 0 in a leaf |
//! | leaf's entry | 0 | 4 | first block in the file |
//! | | 4 | 2 | length; above 32768: not written yet, by so much more |
//! | | 6 | 2+4 | first block in the image, high and low |
//! | node's entry | 0 | 4 | first block in the file |
//! | | 4 | 4+2 | block of the child, low and high |

use anyhow::{Context, Result};

use super::bytes::{
    BLOCK, Block, ZEROS, crc32c, get16, get32, low16, low32, put, put16, put32, small,
};
use super::inode::MAP;

/// Bytes of the header, and of an entry.
pub(super) const ENTRY: usize = 12;

/// Deepest tree that Linux makes or reads.
pub(super) const DEPTH_MAX: u16 = 5;

/// Entries of the root.
const ROOT_ENTRIES: usize = MAP / ENTRY - 1;

/// Entries of a block.
const BLOCK_ENTRIES: usize = BLOCK / ENTRY - 1;

/// Blocks of the longest extent.
const LENGTH_MAX: u16 = 1 << 15;

const MAGIC: u16 = 0xf30a;

/// Blocks of the image that are next to each other in a file as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first in the file.
    pub(super) at: u32,
    /// How many.
    pub(super) length: u16,
    /// The first in the image.
    pub(super) block: u64,
}

/// Takes a block for what belongs to a file's map, and writes it.
pub(super) trait Place {
    /// Gives the block's number.
    fn place(&mut self, block: &Block) -> Result<u64>;
}

/// An extent tree that grows to the right; nodes are written when they are full.
#[derive(Debug)]
pub(super) struct Builder {
    /// Where the checksums of its blocks start.
    seed: u32,
    last: Option<Extent>,
    /// The nodes that are not full, leaf first.
    levels: Vec<Vec<[u8; ENTRY]>>,
    /// Blocks written for nodes.
    nodes: u64,
}

impl Builder {
    /// An empty tree.
    pub(super) fn new(seed: u32) -> Self {
        Self { seed, last: None, levels: vec![Vec::new()], nodes: 0 }
    }

    /// Says that block `at` of the file, behind all so far, is `block`.
    pub(super) fn push(&mut self, at: u32, block: u64, space: &mut dyn Place) -> Result<()> {
        if let Some(last) = &mut self.last {
            let length = u32::from(last.length);
            let follows = last.at + length == at && last.block + u64::from(length) == block;
            if follows && last.length < LENGTH_MAX {
                last.length += 1;
                return Ok(());
            }
        }
        match self.last.replace(Extent { at, length: 1, block }) {
            Some(extent) => self.add(0, leaf_entry(extent), space),
            None => Ok(()),
        }
    }

    /// Gives the root for the inode, and how many blocks the other nodes took.
    pub(super) fn finish(mut self, space: &mut dyn Place) -> Result<([u8; MAP], u64)> {
        if let Some(extent) = self.last.take() {
            self.add(0, leaf_entry(extent), space)?;
        }
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels[level].len() > ROOT_ENTRIES {
            self.flush(level, space)?;
            level += 1;
        }
        let mut root = [0; MAP];
        fill(&mut root, &self.levels[level], level);
        Ok((root, self.nodes))
    }

    fn add(&mut self, level: usize, entry: [u8; ENTRY], space: &mut dyn Place) -> Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        if self.levels[level].len() == BLOCK_ENTRIES {
            self.flush(level, space)?;
        }
        self.levels[level].push(entry);
        Ok(())
    }

    fn flush(&mut self, level: usize, space: &mut dyn Place) -> Result<()> {
        let entries = std::mem::take(&mut self.levels[level]);
        let mut block = ZEROS;
        fill(&mut block, &entries, level);
        let end = ENTRY * (1 + BLOCK_ENTRIES);
        let checksum = crc32c(self.seed, &block[..end]);
        put32(&mut block, end, checksum);
        let child = space.place(&block)?;
        self.nodes += 1;
        let mut entry = [0; ENTRY];
        put32(&mut entry, 0, entries.first().map_or(0, |first| get32(first, 0)));
        put32(&mut entry, 4, low32(child));
        put16(&mut entry, 8, low16(low32(child >> 32)));
        self.add(level + 1, entry, space)
    }
}

/// Blocks that the nodes of a tree of so many extents take, but for the root.
pub(super) fn nodes(extents: u64) -> u64 {
    let (mut entries, mut nodes) = (extents, 0);
    while entries > ROOT_ENTRIES as u64 {
        entries = entries.div_ceil(BLOCK_ENTRIES as u64);
        nodes += entries;
    }
    nodes
}

fn leaf_entry(extent: Extent) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    put32(&mut entry, 0, extent.at);
    put16(&mut entry, 4, extent.length);
    put16(&mut entry, 6, low16(low32(extent.block >> 32)));
    put32(&mut entry, 8, low32(extent.block));
    entry
}

fn fill(node: &mut [u8], entries: &[[u8; ENTRY]], level: usize) {
    let room = node.len() / ENTRY - 1;
    for (at, value) in [(0, MAGIC.into()), (2, entries.len()), (4, room), (6, level)] {
        put16(node, at, small(value));
    }
    for (at, entry) in (ENTRY..).step_by(ENTRY).zip(entries) {
        put(node, at, *entry);
    }
}

/// Where block `at` of a file is, as a node knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In this block of the image; so many follow each other.
    Data(u64, u32),
    /// Zeros, so many blocks at least.
    Hole(u32),
    /// Ask this block, which may know blocks of the file below the number given.
    Child(u64, u32),
}

/// Looks for block `at` in a node that must be `depth` levels above the leaves
/// (the root may say so itself).
pub(super) fn look(node: &[u8], at: u32, depth: Option<u16>) -> Result<(Found, u16)> {
    let (count, own_depth) = (get16(node, 2), get16(node, 6));
    let is_node = get16(node, 0) == MAGIC
        && usize::from(count) < node.len() / ENTRY
        && own_depth <= DEPTH_MAX
        && depth.is_none_or(|depth| depth == own_depth);
    let entries = node.get(ENTRY..).unwrap_or_default().chunks_exact(ENTRY);
    let entries = is_node.then(|| entries.take(count.into()));
    let entries = entries.context("a node of the extent tree is damaged: run e2fsck")?;
    let mut before = None;
    // The end of what this node knows: the last block of a file has no successor.
    let mut next = u32::MAX;
    for entry in entries {
        if get32(entry, 0) > at {
            next = get32(entry, 0);
            break;
        }
        before = Some(entry);
    }
    let Some(entry) = before else { return Ok((Found::Hole(next - at), own_depth)) };
    if own_depth > 0 {
        let child = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
        return Ok((Found::Child(child, next), own_depth));
    }
    let first = get32(entry, 0);
    let block = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
    let stored = get16(entry, 4);
    let is_written = stored <= LENGTH_MAX;
    let length = u32::from(if is_written { stored } else { stored - LENGTH_MAX });
    let found = match (at - first).checked_sub(length) {
        Some(_) => Found::Hole((next - at).max(1)),
        None if is_written => Found::Data(block + u64::from(at - first), length - (at - first)),
        None => Found::Hole(length - (at - first)),
    };
    Ok((found, own_depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Nodes(Vec<Block>);

    impl Place for Nodes {
        fn place(&mut self, block: &Block) -> Result<u64> {
            self.0.push(*block);
            Ok(self.0.len() as u64 - 1)
        }
    }

    fn find(root: &[u8], nodes: &Nodes, at: u32) -> Found {
        let (mut found, mut depth) = look(root, at, None).unwrap();
        while let Found::Child(child, _) = found {
            let node = &nodes.0[usize::try_from(child).unwrap()];
            (found, depth) = look(node, at, Some(depth - 1)).unwrap();
        }
        found
    }

    /// Every third block is a hole, so that no two extents can be one.
    #[test]
    fn what_is_built_is_found() {
        for (extents, depth) in [(0, 0), (4, 0), (5, 1), (1360, 1), (1361, 2), (500_000, 3)] {
            let (mut space, mut builder) = (Nodes::default(), Builder::new(1));
            let data = |extent: u32| 1_000_000 + u64::from(extent) * 2;
            for extent in 0..extents {
                for block in 0..2 {
                    let place = data(extent) + u64::from(block);
                    builder.push(extent * 3 + block, place, &mut space).unwrap();
                }
            }
            let (root, count) = builder.finish(&mut space).unwrap();
            assert_eq!(get16(&root, 6), depth, "{extents}");
            assert_eq!(count, space.0.len() as u64);
            assert_eq!(count, nodes(extents.into()), "{extents}");
            for extent in (0..extents).step_by(97) {
                let found = [0, 1].map(|block| find(&root, &space, extent * 3 + block));
                let expected = [(0, 2), (1, 1)].map(|(at, n)| Found::Data(data(extent) + at, n));
                assert_eq!(found, expected);
                assert!(matches!(find(&root, &space, extent * 3 + 2), Found::Hole(_)));
            }
        }
    }

    #[test]
    fn neighbours_become_one_extent_up_to_the_longest() {
        let (mut space, mut builder) = (Nodes::default(), Builder::new(1));
        for at in 0..40_000 {
            builder.push(at, 7 + u64::from(at), &mut space).unwrap();
        }
        let (root, count) = builder.finish(&mut space).unwrap();
        assert_eq!((get16(&root, 2), count), (2, 0));
        assert_eq!(find(&root, &space, 0), Found::Data(7, 32_768));
        assert_eq!(find(&root, &space, 39_999), Found::Data(40_006, 1));
    }
}
