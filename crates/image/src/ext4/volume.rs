//! An image that is read: its superblock, inodes and blocks.
//!
//! The image is hostile: every number is checked where it is used. Checksums are
//! not verified; e2fsck(8) does that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::extents::{self, Found};
use super::geometry::Geometry;
use super::inode::{Inode, MAP, flags};
use super::layout::{Group, SUPERBLOCK, SUPERBLOCK_AT, Superblock, incompat};
use crate::tree::file_length;

/// What we read of `s_feature_incompat`.
const READABLE: u32 = incompat::FILETYPE
    | incompat::META_BG
    | incompat::EXTENTS
    | incompat::BIT64
    | incompat::MMP
    | incompat::FLEX_BG
    | incompat::CSUM_SEED
    | incompat::LARGEDIR
    | incompat::INLINE_DATA;

/// What we do not, by the names of ext4(5).
#[rustfmt::skip]
const REFUSED: &[(u32, &str)] = &[
    (0x1,               "compression: this is not supported"),
    (incompat::RECOVER, "a journal that is not empty: mount it once, or run e2fsck"),
    (0x8,               "journal_dev: this is the journal of another file system"),
    (0x400,             "ea_inode: this is not supported"),
    (0x1000,            "dirdata: this is not supported"),
    (0x1_0000,          "encrypt: this is not supported"),
    (0x2_0000,          "casefold: this is not supported"),
];

/// An image that is read.
#[derive(Debug)]
pub(super) struct Volume {
    file: Arc<File>,
    superblock: Superblock,
}

/// Where the blocks of a file are; see [`Volume::find`].
#[derive(Clone, Debug)]
pub(super) struct Map {
    bytes: [u8; MAP],
    has_extents: bool,
}

/// Blocks in a row: from this one of the image on, or zeros; and how many.
pub(super) type Run = (Option<u64>, u32);

impl Map {
    /// That of an inode which has blocks.
    pub(super) fn of(inode: &Inode) -> Self {
        Self { bytes: inode.map, has_extents: inode.flags & flags::EXTENTS != 0 }
    }
}

impl Volume {
    /// Looks at the superblock.
    ///
    /// # Errors
    /// What is no ext2, ext3 or ext4, or one that we cannot read.
    pub(super) fn open(file: Arc<File>) -> Result<Self> {
        let mut bytes = [0; SUPERBLOCK];
        file.read_exact_at(&mut bytes, SUPERBLOCK_AT)
            .context("no ext4 file system: it is too short for a superblock")?;
        let superblock = Superblock::decode(&bytes)?;
        for (feature, problem) in REFUSED {
            ensure!(superblock.incompat & feature == 0, "ext4 with {problem}");
        }
        let unknown = superblock.incompat & !READABLE;
        ensure!(unknown == 0, "ext4 with unknown features {unknown:#x}");
        let length = file_length(&file).context("find the end of the image")?;
        let fits = superblock.blocks <= length >> superblock.block_bits;
        ensure!(fits, "the image is cut short: {} blocks, {length} bytes", superblock.blocks);
        Ok(Self { file, superblock })
    }

    /// The image.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes of data that one file has at most.
    pub(super) fn data_max(&self) -> u64 {
        /// Blocks may be in several places (`EXT4_FEATURE_RO_COMPAT_SHARED_BLOCKS`).
        const SHARED_BLOCKS: u32 = 0x4000;
        match self.superblock.ro_compat & SHARED_BLOCKS {
            0 => self.superblock.blocks.saturating_mul(self.block_size() as u64),
            _ => u64::MAX,
        }
    }

    /// Bytes of a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.superblock.block_bits
    }

    /// Reads from byte `offset` of block `block` on.
    pub(super) fn read(&self, block: u64, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bits = self.superblock.block_bits;
        let is_there = block > 0 && block < self.superblock.blocks;
        let blocks_left = if is_there { self.superblock.blocks - block } else { 0 };
        let fits = (blocks_left << bits).checked_sub(offset) >= Some(buffer.len() as u64);
        ensure!(fits, "block {block} is outside of the file system: run e2fsck");
        let start = (block << bits) + offset;
        self.file.read_exact_at(buffer, start).with_context(|| format!("read block {block}"))
    }

    /// A whole block.
    pub(super) fn block(&self, block: u64) -> Result<Vec<u8>> {
        let mut buffer = vec![0; self.block_size()];
        self.read(block, 0, &mut buffer)?;
        Ok(buffer)
    }

    /// Inode `number`.
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let Superblock { inodes, inodes_per_group, inode_size, .. } = self.superblock;
        ensure!((1..=inodes).contains(&number), "no inode {number}: run e2fsck");
        let (group, index) = ((number - 1) / inodes_per_group, (number - 1) % inodes_per_group);
        let table = self.inode_table(group)?;
        let mut bytes = vec![0; inode_size.into()];
        self.read(table, u64::from(index) * u64::from(inode_size), &mut bytes)?;
        Ok(Inode::decode(&bytes))
    }

    /// Whether `number` is an inode for anything.
    pub(super) fn is_free_for_all(&self, number: u32) -> bool {
        number >= self.superblock.first_inode
    }

    /// The first block of a group's inode table.
    fn inode_table(&self, group: u32) -> Result<u64> {
        /// All groups of an old file system have a superblock.
        const SPARSE_SUPER: u32 = 0x1;
        let superblock = &self.superblock;
        let size = u32::from(superblock.descriptor_size);
        let per_block = (1 << superblock.block_bits) / size;
        let index = group / per_block;
        let is_spread = superblock.incompat & incompat::META_BG != 0;
        let block = match is_spread && index > 0 && index >= superblock.first_meta_group {
            true => {
                let group = index * per_block;
                let is_sparse = superblock.ro_compat & SPARSE_SUPER != 0;
                let copy = !is_sparse || Geometry::has_superblock(group);
                let start = u64::from(group) * u64::from(superblock.blocks_per_group);
                u64::from(superblock.first_data_block) + start + u64::from(copy)
            }
            // Not behind the first data block: with clusters that is 0.
            false => (SUPERBLOCK_AT >> superblock.block_bits) + 1 + u64::from(index),
        };
        let mut descriptor = vec![0; size as usize];
        self.read(block, u64::from(group % per_block * size), &mut descriptor)?;
        Ok(Group::inode_table(&descriptor))
    }

    /// Finds block `at` of a file.
    pub(super) fn find(&self, map: &Map, at: u32) -> Result<Run> {
        match map.has_extents {
            true => self.find_extent(map, at),
            false => self.find_pointer(map, at),
        }
    }

    fn find_extent(&self, map: &Map, at: u32) -> Result<Run> {
        let (mut found, mut depth) = extents::look(&map.bytes, at, None)?;
        let mut end = u32::MAX;
        loop {
            match found {
                Found::Data(block, count) => return Ok((Some(block), count)),
                Found::Hole(count) => return Ok((None, count.min(end - at).max(1))),
                Found::Child(child, next) => {
                    end = end.min(next);
                    // Each level is one lower, so that this ends.
                    (found, depth) = extents::look(&self.block(child)?, at, Some(depth - 1))?;
                }
            }
        }
    }

    /// As ext2 has it: 12 blocks, and trees of one, two and three levels of blocks
    /// of pointers.
    fn find_pointer(&self, map: &Map, at: u32) -> Result<Run> {
        const DIRECT: u64 = 12;
        let per_block = (self.block_size() / 4) as u64;
        // Pointer in the inode, blocks below it, and the place among them.
        let (mut slot, mut span, mut place) = (u64::from(at), 1, 0);
        if slot >= DIRECT {
            (slot, span, place) = (DIRECT, per_block, u64::from(at) - DIRECT);
            while place >= span {
                place -= span;
                slot += 1;
                span *= per_block;
            }
        }
        ensure!(slot < (MAP / 4) as u64, "a file with more blocks than pointers reach");
        let mut pointer = super::bytes::get32(&map.bytes, usize::try_from(slot)? * 4);
        while pointer != 0 && span > 1 {
            span /= per_block;
            let mut bytes = [0; 4];
            self.read(pointer.into(), place / span * 4, &mut bytes)?;
            pointer = u32::from_le_bytes(bytes);
            place %= span;
        }
        Ok(match pointer {
            0 => (None, u32::try_from(span - place).unwrap_or(u32::MAX)),
            block => (Some(block.into()), 1),
        })
    }
}
