//! Bitmaps, group descriptors and superblocks of a file system whose data are
//! written.
//!
//! Bitmaps of groups in which nothing is used are left out, as mke2fs(8) does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::bytes::{BLOCK, Block, crc32c};
use super::geometry::{Blocks, Geometry, PER_GROUP};
use super::layout::{DESCRIPTOR, Group, SUPERBLOCK_AT, Superblock, group_flags};

/// What is used.
#[derive(Debug)]
pub(super) struct Used<'a> {
    /// Data blocks.
    pub(super) blocks: &'a Blocks<'a>,
    /// The last inode; all before are used or reserved.
    pub(super) last_inode: u32,
    /// Directories of each group.
    pub(super) directories: &'a [u32],
}

/// Writes all of it; `superblock` is complete but for what is free.
pub(super) fn write(
    out: &File,
    geometry: &Geometry,
    used: &Used,
    mut superblock: Superblock,
) -> Result<()> {
    let seed = crc32c(!0, &superblock.uuid);
    let put = |bytes: &[u8], at: u64| out.write_all_at(bytes, at).context("write the image");
    let mut descriptors = Vec::with_capacity(geometry.groups as usize * DESCRIPTOR);
    for (number, &directories) in (0..geometry.groups).zip(used.directories) {
        let (group, bitmaps) = describe(geometry, used, seed, number, directories);
        superblock.free_blocks += u64::from(group.free_blocks);
        for (bitmap, at) in bitmaps.iter().zip([group.block_bitmap, group.inode_bitmap]) {
            if let Some(bitmap) = bitmap {
                put(bitmap, at * BLOCK as u64)?;
            }
        }
        descriptors.extend_from_slice(&group.encode(seed, number));
    }
    superblock.free_inodes = geometry.inodes() - used.last_inode;
    for group in (1..geometry.groups).filter(|&group| Geometry::has_superblock(group)) {
        let at = Geometry::start(group) * BLOCK as u64;
        put(&superblock.encode(group), at)?;
        put(&descriptors, at + BLOCK as u64)?;
    }
    put(&descriptors, BLOCK as u64)?;
    put(&superblock.encode(0), SUPERBLOCK_AT)
}

/// The descriptor of a group, and its bitmaps of blocks and of inodes.
fn describe(
    geometry: &Geometry,
    used: &Used,
    seed: u32,
    number: u32,
    directories: u32,
) -> (Group, [Option<Block>; 2]) {
    let (start, end) = (Geometry::start(number), geometry.end(number));
    let first_free = used.blocks.first_free(number);
    // e2fsck wants to see the bitmap of the last group, which is not a whole one.
    let is_last = number + 1 == geometry.groups;
    let has_blocks = first_free.is_some() || is_last;
    let first_free = first_free.unwrap_or_else(|| geometry.first_data(number));
    let inodes = used.last_inode.saturating_sub(number * geometry.inodes_per_group);
    let inodes = inodes.min(geometry.inodes_per_group);
    let blocks = has_blocks.then(|| bitmap(first_free - start, end - start));
    let table = (inodes > 0).then(|| bitmap(inodes.into(), geometry.inodes_per_group.into()));
    let flags = [
        (true, group_flags::INODE_ZEROED),
        (!has_blocks, group_flags::BLOCK_UNINIT),
        (inodes == 0, group_flags::INODE_UNINIT),
    ];
    let checksum = |bitmap: &Option<Block>, bits: u32| {
        bitmap.as_ref().map_or(0, |bitmap| crc32c(seed, &bitmap[..bits as usize / 8]))
    };
    let block_bitmap = geometry.block_bitmap(number);
    let group = Group {
        block_bitmap,
        inode_bitmap: block_bitmap + 1,
        inode_table: block_bitmap + 2,
        free_blocks: u32::try_from(end - first_free).unwrap_or(PER_GROUP),
        free_inodes: geometry.inodes_per_group - inodes,
        directories,
        flags: flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum(),
        block_bitmap_checksum: checksum(&blocks, PER_GROUP),
        inode_bitmap_checksum: checksum(&table, geometry.inodes_per_group),
        never_used: geometry.inodes_per_group - inodes,
    };
    (group, [blocks, table])
}

/// A bitmap whose first `used` bits are set, and those from `size` on, which
/// stand for nothing.
fn bitmap(used: u64, size: u64) -> Block {
    let mut block = [0; BLOCK];
    for (byte, bits) in (0..).step_by(8).zip(&mut block) {
        for bit in 0..8 {
            let index: u64 = byte + bit;
            *bits |= u8::from(index < used || index >= size) << bit;
        }
    }
    block
}
