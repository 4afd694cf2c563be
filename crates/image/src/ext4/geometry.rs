//! Where the groups are, and which blocks of them are their own.
//!
//! Format: kernel doc filesystems/ext4/blockgroup.rst. A group is 32768 blocks:
//! superblock and all descriptors (in some groups), block bitmap, inode bitmap,
//! inode table, and then data.
//!
//! Data are given out in order, so that the bitmaps follow from one number: the
//! next free block.

use anyhow::{Context, Result, bail, ensure};

use super::bytes::{BLOCK, BLOCK_BITS};
use super::inode;
use super::layout::DESCRIPTOR;

/// Blocks of a group: as many as one block has bits.
pub(super) const PER_GROUP: u32 = 8 << BLOCK_BITS;

/// Inodes of a block of the inode table.
pub(super) const PER_BLOCK: u32 = 1 << (BLOCK_BITS - inode::SIZE_BITS);

/// Data blocks without which a last group is left out, as mke2fs(8) does.
const LAST_GROUP_MIN: u64 = 50;

/// The groups of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Blocks in all groups.
    pub(super) blocks: u64,
    /// Groups.
    pub(super) groups: u32,
    /// Inodes of each.
    pub(super) inodes_per_group: u32,
    /// Blocks of all descriptors.
    pub(super) descriptor_blocks: u32,
}

impl Geometry {
    /// At most `blocks` blocks with at least `inodes` inodes.
    pub(super) fn new(blocks: u64, inodes: u64) -> Result<Self> {
        /// Block numbers have 32 bits in some tools' and kernels' paths.
        const BLOCKS_MAX: u64 = u32::MAX as u64;
        ensure!(blocks <= BLOCKS_MAX, "ext4 with blocks of 4 KiB is below 16 TiB here");
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

    /// The first block of `group`.
    pub(super) fn start(group: u32) -> u64 {
        u64::from(group) * u64::from(PER_GROUP)
    }

    /// The first block behind `group`.
    pub(super) fn end(&self, group: u32) -> u64 {
        Self::start(group + 1).min(self.blocks)
    }

    /// Whether `group` has a superblock and descriptors (sparse_super).
    pub(super) fn has_superblock(group: u32) -> bool {
        let is_power = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        group < 2 || [3, 5, 7].into_iter().any(is_power)
    }

    /// The block bitmap of `group`; inode bitmap and inode table follow.
    pub(super) fn block_bitmap(&self, group: u32) -> u64 {
        let copy = if Self::has_superblock(group) { 1 + self.descriptor_blocks } else { 0 };
        Self::start(group) + u64::from(copy)
    }

    /// The first block of `group` that is not its own.
    pub(super) fn first_data(&self, group: u32) -> u64 {
        self.block_bitmap(group) + 2 + u64::from(self.inodes_per_group / PER_BLOCK)
    }

    /// Inodes of all groups.
    pub(super) fn inodes(&self) -> u32 {
        self.groups * self.inodes_per_group
    }

    /// Data blocks.
    pub(super) fn capacity(&self) -> u64 {
        (0..self.groups).map(|group| self.end(group) - self.first_data(group)).sum()
    }

    /// The byte of the image where inode `number` is.
    pub(super) fn inode_at(&self, number: u32) -> u64 {
        let (group, index) = self.inode_place(number);
        let table = (self.block_bitmap(group) + 2) * BLOCK as u64;
        table + u64::from(index) * inode::SIZE as u64
    }

    /// The group of inode `number`, and its place there.
    pub(super) fn inode_place(&self, number: u32) -> (u32, u32) {
        ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group)
    }
}

/// Gives out data blocks in order.
#[derive(Clone, Debug)]
pub(super) struct Blocks<'a> {
    geometry: &'a Geometry,
    group: u32,
    next: u64,
}

impl<'a> Blocks<'a> {
    /// All data blocks are free.
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        Self { geometry, group: 0, next: geometry.first_data(0) }
    }

    /// Takes the next block.
    pub(super) fn take(&mut self) -> Result<u64> {
        if self.next == self.geometry.end(self.group) {
            self.group += 1;
            if self.group == self.geometry.groups {
                bail!("the image is full: give it a larger size");
            }
            self.next = self.geometry.first_data(self.group);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// The first block of `group` that is free; `None` where nothing was taken.
    pub(super) fn first_free(&self, group: u32) -> Option<u64> {
        match group.cmp(&self.group) {
            std::cmp::Ordering::Less => Some(self.geometry.end(group)),
            std::cmp::Ordering::Equal => Some(self.next),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// What has to be in a file system, in blocks and inodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Data blocks, the journal's not counted.
    pub(super) blocks: u64,
    /// Inodes.
    pub(super) inodes: u64,
}

impl Need {
    /// The smallest geometry with this and a journal.
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
            blocks = blocks.checked_add(missing).context("too much for ext4")?;
        }
    }

    /// The geometry of exactly `blocks` blocks.
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

    /// Blocks that are missing in `geometry`.
    fn missing(self, geometry: &Geometry) -> u64 {
        let journal = super::journal::blocks(geometry.blocks);
        (self.blocks + u64::from(journal)).saturating_sub(geometry.capacity())
    }

    /// Inodes for `blocks` blocks: some more than are needed, or one for each
    /// 16 KiB as mke2fs(8) has it.
    fn inodes(self, blocks: u64) -> u64 {
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
    fn some_groups_have_superblocks() {
        let with: Vec<_> = (0..130).filter(|&group| Geometry::has_superblock(group)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn geometries_hold_what_they_were_made_for() {
        for (blocks, inodes) in [
            (0, 1),
            (1, 12),
            (0, 300_000),
            (32_000, 12),
            (32_768, 40_000),
            (2_000_000, 100),
            (500_000_000, 500_000_000),
        ] {
            let need = Need { blocks, inodes };
            let geometry = need.smallest().unwrap();
            assert!(u64::from(geometry.inodes()) >= inodes, "{need:?} {geometry:?}");
            assert_eq!(need.missing(&geometry), 0, "{need:?} {geometry:?}");
            assert_eq!(need.within(geometry.blocks).unwrap(), geometry);
        }
        assert!(Need { blocks: 1 << 32, inodes: 1 }.smallest().is_err());
        let error = Need { blocks: 5000, inodes: 20 }.within(4000).unwrap_err();
        assert!(format!("{error:#}").contains("bytes are needed"), "{error:#}");
    }

    #[test]
    fn blocks_are_given_out_once_and_all() {
        let geometry = Geometry::new(3 * 32_768 + 1000, 1000).unwrap();
        let mut blocks = Blocks::new(&geometry);
        let taken: Vec<_> = std::iter::from_fn(|| blocks.take().ok()).collect();
        assert_eq!(taken.len() as u64, geometry.capacity());
        assert!(taken.is_sorted_by(|a, b| a < b));
    }
}
