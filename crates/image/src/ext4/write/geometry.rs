//! Geometry of a file system: its groups, and which of their blocks hold metadata.
//!
//! Format: kernel doc filesystems/ext4/blockgroup.rst. A group has 32768 blocks. Some groups
//! start with a superblock and all descriptors. The block bitmap, the inode bitmap and the
//! inode table follow, and then the data blocks.
//!
//! Data blocks are taken in order. So the block bitmaps follow from one number, the next
//! free block.

use anyhow::{Context, Result, bail, ensure};

use super::journal;
use crate::ext4::layout::bytes::{BLOCK, BLOCK_BITS};
use crate::ext4::layout::group::{DESCRIPTOR, has_superblock};
use crate::ext4::layout::inode;
use crate::ext4::options::Ext4Journal;

/// Blocks of a group (`s_blocks_per_group`): its bitmap is one block.
pub(super) const PER_GROUP: u32 = 8 << BLOCK_BITS;

/// Inodes in a block of the inode table.
pub(super) const PER_BLOCK: u32 = 1 << (BLOCK_BITS - inode::SIZE_BITS);

/// Fewest data blocks of the last group. A smaller group is left out, as mke2fs(8) does.
const LAST_GROUP_MIN: u64 = 50;

/// Groups of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Number of blocks in all groups.
    pub(super) blocks: u64,
    /// Number of groups.
    pub(super) groups: u32,
    /// Number of inodes in each group.
    pub(super) inodes_per_group: u32,
    /// Number of blocks that hold all descriptors.
    pub(super) descriptor_blocks: u32,
}

impl Geometry {
    /// Geometry with at most `blocks` blocks and at least `inodes` inodes.
    ///
    /// # Errors
    /// The blocks are too few, or more than ext4 can have.
    pub(super) fn new(blocks: u64, inodes: u64) -> Result<Self> {
        /// Most blocks: some tools and kernels handle block numbers of 32 bits only.
        const BLOCKS_MAX: u64 = u32::MAX as u64;
        ensure!(blocks <= BLOCKS_MAX, "an ext4 image must be smaller than 16 TiB");
        let groups = u32::try_from(blocks.div_ceil(PER_GROUP.into()))?.max(1);
        let inodes_per_group = inodes.div_ceil(groups.into()).next_multiple_of(PER_BLOCK.into());
        ensure!(
            inodes_per_group <= PER_GROUP.into() && inodes_per_group * u64::from(groups) < 1 << 32,
            "{inodes} files need more than {blocks} blocks of 4 KiB"
        );
        let descriptors = (groups as usize * DESCRIPTOR).div_ceil(BLOCK);
        let inodes_per_group = u32::try_from(inodes_per_group)?;
        let descriptor_blocks = u32::try_from(descriptors)?;
        let geometry = Self { blocks, groups, inodes_per_group, descriptor_blocks };
        let last = groups - 1;
        if blocks >= geometry.first_data(last) + LAST_GROUP_MIN {
            return Ok(geometry);
        }
        ensure!(last > 0, "{blocks} blocks of 4 KiB are too few for ext4");
        Self::new(Self::start(last), inodes)
    }

    /// First block of `group`.
    pub(super) fn start(group: u32) -> u64 {
        u64::from(group) * u64::from(PER_GROUP)
    }

    /// First block after `group`.
    pub(super) fn end(&self, group: u32) -> u64 {
        Self::start(group + 1).min(self.blocks)
    }

    /// Block of the block bitmap of `group`. The inode bitmap and the inode table follow it.
    pub(super) fn block_bitmap(&self, group: u32) -> u64 {
        let copy = if has_superblock(group) { 1 + self.descriptor_blocks } else { 0 };
        Self::start(group) + u64::from(copy)
    }

    /// First data block of `group`.
    pub(super) fn first_data(&self, group: u32) -> u64 {
        self.block_bitmap(group) + 2 + u64::from(self.inodes_per_group / PER_BLOCK)
    }

    /// Number of inodes in all groups.
    pub(super) fn inodes(&self) -> u32 {
        self.groups * self.inodes_per_group
    }

    /// Number of data blocks in all groups.
    pub(super) fn capacity(&self) -> u64 {
        (0..self.groups).map(|group| self.end(group) - self.first_data(group)).sum()
    }

    /// Byte of the image where inode `number` starts.
    pub(super) fn inode_at(&self, number: u32) -> u64 {
        let (group, index) = self.inode_index(number);
        let table = (self.block_bitmap(group) + 2) * BLOCK as u64;
        table + u64::from(index) * inode::SIZE as u64
    }

    /// Group of inode `number`, and its index in that group.
    pub(super) fn inode_index(&self, number: u32) -> (u32, u32) {
        ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group)
    }
}

/// Data blocks of a geometry, taken in order.
#[derive(Clone, Debug)]
pub(super) struct DataBlocks<'a> {
    geometry: &'a Geometry,
    /// Group of the next block.
    group: u32,
    next: u64,
}

impl<'a> DataBlocks<'a> {
    /// All data blocks, none of them taken.
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        Self { geometry, group: 0, next: geometry.first_data(0) }
    }

    /// Takes the next free block.
    ///
    /// # Errors
    /// No block is free.
    pub(super) fn take(&mut self) -> Result<u64> {
        if self.next == self.geometry.end(self.group) {
            self.group += 1;
            if self.group == self.geometry.groups {
                bail!("the image is full: choose a larger size");
            }
            self.next = self.geometry.first_data(self.group);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// First free block of `group`, or `None` if no block of the group was taken.
    pub(super) fn first_free(&self, group: u32) -> Option<u64> {
        match group.cmp(&self.group) {
            std::cmp::Ordering::Less => Some(self.geometry.end(group)),
            std::cmp::Ordering::Equal => Some(self.next),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// Space that the contents of a file system need.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceNeed {
    /// Number of data blocks without those of the journal.
    pub(super) blocks: u64,
    /// Number of inodes.
    pub(super) inodes: u64,
    /// Whether the file system has a journal.
    pub(super) journal: Ext4Journal,
}

impl SpaceNeed {
    /// Smallest geometry that has room for this and the journal.
    pub(super) fn smallest(self) -> Result<Geometry> {
        let groups = self.inodes.div_ceil(PER_GROUP.into());
        let mut blocks = self.blocks.max((groups - 1) * u64::from(PER_GROUP) + 1);
        loop {
            let missing = match Geometry::new(blocks, self.inodes(blocks)) {
                Ok(geometry) => match self.missing(&geometry) {
                    0 => return Ok(geometry),
                    missing => missing,
                },
                Err(error) if blocks >= u32::MAX.into() => return Err(error),
                Err(_) => LAST_GROUP_MIN,
            };
            blocks = blocks.checked_add(missing).context("the tree is too large for ext4")?;
        }
    }

    /// Geometry of at most `blocks` blocks.
    ///
    /// # Errors
    /// The blocks are too few; the message names a size that is enough.
    pub(super) fn within(self, blocks: u64) -> Result<Geometry> {
        let hint = || match self.smallest() {
            Ok(geometry) => format!("{} bytes are needed", geometry.blocks * BLOCK as u64),
            Err(error) => format!("{error:#}"),
        };
        let geometry = Geometry::new(blocks, self.inodes(blocks)).with_context(hint)?;
        let has = geometry.blocks * BLOCK as u64;
        ensure!(self.missing(&geometry) == 0, "an image of {has} bytes is too small: {}", hint());
        Ok(geometry)
    }

    /// Number of blocks that `geometry` lacks.
    fn missing(self, geometry: &Geometry) -> u64 {
        let journal = journal::blocks(self.journal, geometry.blocks);
        (self.blocks + u64::from(journal)).saturating_sub(geometry.capacity())
    }

    /// Number of inodes for an image of `blocks` blocks: a few more than needed, or one for
    /// each 16 KiB as mke2fs(8) makes them.
    fn inodes(self, blocks: u64) -> u64 {
        /// Blocks for each inode (`inode_ratio` of mke2fs.conf(5)).
        const BLOCKS_PER_INODE: u64 = 4;
        let spare = self.inodes + self.inodes / 16;
        let most = blocks.div_ceil(PER_GROUP.into()) * u64::from(PER_GROUP);
        spare.min(most).max(self.inodes).max(blocks / BLOCKS_PER_INODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_geometry_holds_its_need() {
        for (blocks, inodes) in [
            (0, 1),
            (1, 12),
            (0, 300_000),
            (32_000, 12),
            (32_768, 40_000),
            (2_000_000, 100),
            (500_000_000, 500_000_000),
        ] {
            let need = SpaceNeed { blocks, inodes, journal: Ext4Journal::BySize };
            let geometry = need.smallest().unwrap();
            assert!(u64::from(geometry.inodes()) >= inodes, "{need:?} {geometry:?}");
            assert_eq!(need.missing(&geometry), 0, "{need:?} {geometry:?}");
            assert_eq!(need.within(geometry.blocks).unwrap(), geometry);
        }
        let need = |blocks, inodes| SpaceNeed { blocks, inodes, journal: Ext4Journal::BySize };
        assert!(need(1 << 32, 1).smallest().is_err());
        let error = need(5000, 20).within(4000).unwrap_err();
        assert!(format!("{error:#}").contains("bytes are needed"), "{error:#}");
    }

    #[test]
    fn every_data_block_is_taken_once() {
        let geometry = Geometry::new(3 * 32_768 + 1000, 1000).unwrap();
        let mut blocks = DataBlocks::new(&geometry);
        let taken: Vec<_> = std::iter::from_fn(|| blocks.take().ok()).collect();
        assert_eq!(taken.len() as u64, geometry.capacity());
        assert!(taken.is_sorted_by(|a, b| a < b));
    }
}
