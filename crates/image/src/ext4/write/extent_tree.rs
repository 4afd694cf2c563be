//! Builder of extent trees: it takes the blocks of a file in order and writes the nodes.
//!
//! Format: see `layout::extents`. A node is written when it is full, so memory holds one
//! node for each level.

use anyhow::Result;

use crate::disk_parts::crc32c::crc32c;
use crate::ext4::layout::bytes::{Ext4Block, ZEROS, get32, low16, low32, put16, put32};
use crate::ext4::layout::extents::{
    BLOCK_ENTRIES, ENTRY, Extent, LENGTH_MAX, ROOT_ENTRIES, fill, leaf_entry,
};
use crate::ext4::layout::inode::BLOCK_MAP;

/// Free space of the image, from which nodes take their blocks.
pub(super) trait BlockSink {
    /// Writes `block` into the next free block and returns its number.
    fn append(&mut self, block: &Ext4Block) -> Result<u64>;
}

/// Extent tree that grows at its end.
#[derive(Debug)]
pub(super) struct ExtentTreeBuilder {
    /// Start of the checksums of the nodes.
    seed: u32,
    /// Last extent, which may still grow.
    last: Option<Extent>,
    /// Entries of the node of each level that is not full yet, the leaf first.
    levels: Vec<Vec<[u8; ENTRY]>>,
    /// Number of nodes that were written.
    nodes: u64,
}

impl ExtentTreeBuilder {
    /// Empty tree. `seed` is the start of the checksums of its nodes.
    pub(super) fn new(seed: u32) -> Self {
        Self { seed, last: None, levels: vec![Vec::new()], nodes: 0 }
    }

    /// Adds block `at` of the file, which is stored in `block` of the image. Blocks are
    /// added in ascending order.
    pub(super) fn push(&mut self, at: u32, block: u64, space: &mut dyn BlockSink) -> Result<()> {
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

    /// Completes the tree. Returns the root for the inode and the number of other nodes.
    pub(super) fn finish(mut self, space: &mut dyn BlockSink) -> Result<([u8; BLOCK_MAP], u64)> {
        if let Some(extent) = self.last.take() {
            self.add(0, leaf_entry(extent), space)?;
        }
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels[level].len() > ROOT_ENTRIES {
            self.flush(level, space)?;
            level += 1;
        }
        let mut root = [0; BLOCK_MAP];
        fill(&mut root, &self.levels[level], level);
        Ok((root, self.nodes))
    }

    /// Adds an entry to the node of `level`; writes the node before if it is full.
    fn add(&mut self, level: usize, entry: [u8; ENTRY], space: &mut dyn BlockSink) -> Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        if self.levels[level].len() == BLOCK_ENTRIES {
            self.flush(level, space)?;
        }
        self.levels[level].push(entry);
        Ok(())
    }

    /// Writes the node of `level` and adds it to the level above.
    fn flush(&mut self, level: usize, space: &mut dyn BlockSink) -> Result<()> {
        let entries = std::mem::take(&mut self.levels[level]);
        let mut block = ZEROS;
        fill(&mut block, &entries, level);
        let end = ENTRY * (1 + BLOCK_ENTRIES);
        let checksum = crc32c(self.seed, &block[..end]);
        put32(&mut block, end, checksum);
        let child = space.append(&block)?;
        self.nodes += 1;
        let mut entry = [0; ENTRY];
        put32(&mut entry, 0, entries.first().map_or(0, |first| get32(first, 0)));
        put32(&mut entry, 4, low32(child));
        put16(&mut entry, 8, low16(low32(child >> 32)));
        self.add(level + 1, entry, space)
    }
}

/// Number of nodes of a tree of `extents` extents, without the root.
pub(super) fn nodes(extents: u64) -> u64 {
    let (mut entries, mut nodes) = (extents, 0);
    while entries > ROOT_ENTRIES as u64 {
        entries = entries.div_ceil(BLOCK_ENTRIES as u64);
        nodes += entries;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext4::layout::bytes::get16;
    use crate::ext4::layout::extents::{ExtentLookup, look};

    #[derive(Default)]
    struct Nodes(Vec<Ext4Block>);

    impl BlockSink for Nodes {
        fn append(&mut self, block: &Ext4Block) -> Result<u64> {
            self.0.push(*block);
            Ok(self.0.len() as u64 - 1)
        }
    }

    fn find(root: &[u8], nodes: &Nodes, at: u32) -> ExtentLookup {
        let (mut found, mut depth) = look(root, at, None).unwrap();
        while let ExtentLookup::Child(child, _) = found {
            let node = &nodes.0[usize::try_from(child).unwrap()];
            (found, depth) = look(node, at, Some(depth - 1)).unwrap();
        }
        found
    }

    /// Every third block is a hole, so no two extents can merge.
    #[test]
    fn every_block_is_found_in_the_tree() {
        for (extents, depth) in [(0, 0), (4, 0), (5, 1), (1360, 1), (1361, 2), (500_000, 3)] {
            let (mut space, mut builder) = (Nodes::default(), ExtentTreeBuilder::new(1));
            let data = |extent: u32| 1_000_000 + u64::from(extent) * 2;
            for extent in 0..extents {
                for block in 0..2 {
                    let stored = data(extent) + u64::from(block);
                    builder.push(extent * 3 + block, stored, &mut space).unwrap();
                }
            }
            let (root, count) = builder.finish(&mut space).unwrap();
            assert_eq!(get16(&root, 6), depth, "{extents}");
            assert_eq!(count, space.0.len() as u64);
            assert_eq!(count, nodes(extents.into()), "{extents}");
            for extent in (0..extents).step_by(97) {
                let found = [0, 1].map(|block| find(&root, &space, extent * 3 + block));
                let expected =
                    [(0, 2), (1, 1)].map(|(at, n)| ExtentLookup::Data(data(extent) + at, n));
                assert_eq!(found, expected);
                assert!(matches!(find(&root, &space, extent * 3 + 2), ExtentLookup::Hole(_)));
            }
        }
    }

    #[test]
    fn consecutive_blocks_merge_up_to_the_longest_extent() {
        let (mut space, mut builder) = (Nodes::default(), ExtentTreeBuilder::new(1));
        for at in 0..40_000 {
            builder.push(at, 7 + u64::from(at), &mut space).unwrap();
        }
        let (root, count) = builder.finish(&mut space).unwrap();
        assert_eq!((get16(&root, 2), count), (2, 0));
        assert_eq!(find(&root, &space, 0), ExtentLookup::Data(7, 32_768));
        assert_eq!(find(&root, &space, 39_999), ExtentLookup::Data(40_006, 1));
    }
}
