//! Bitmaps, group descriptors and superblocks. They are written after all data.
//!
//! Format: see `layout::group` and `layout::superblock`. A group without used blocks or
//! inodes gets no bitmap, as with mke2fs(8).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::geometry::{DataBlocks, Geometry, PER_GROUP};
use crate::disk_parts::crc32c::crc32c;
use crate::ext4::layout::bytes::{BLOCK, Ext4Block};
use crate::ext4::layout::group::{DESCRIPTOR, GroupDescriptor, group_flags, has_superblock};
use crate::ext4::layout::superblock::{Ext4Superblock, SUPERBLOCK_AT};

/// Used blocks and inodes of a file system.
#[derive(Debug)]
pub(super) struct UsedSpace<'a> {
    /// Data blocks, of which the first are taken.
    pub(super) blocks: &'a DataBlocks<'a>,
    /// Last used inode. All inodes before it are used or reserved.
    pub(super) last_inode: u32,
    /// Number of directories in each group.
    pub(super) directories: &'a [u32],
}

/// Writes bitmaps, descriptors and superblocks. `superblock` lacks the free blocks and
/// inodes, which are counted here.
pub(super) fn write(
    out: &File,
    geometry: &Geometry,
    used: &UsedSpace,
    mut superblock: Ext4Superblock,
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
    for group in (1..geometry.groups).filter(|&group| has_superblock(group)) {
        let at = Geometry::start(group) * BLOCK as u64;
        put(&superblock.encode(group), at)?;
        put(&descriptors, at + BLOCK as u64)?;
    }
    put(&descriptors, BLOCK as u64)?;
    put(&superblock.encode(0), SUPERBLOCK_AT)
}

/// Builds the descriptor of a group, its block bitmap and its inode bitmap.
fn describe(
    geometry: &Geometry,
    used: &UsedSpace,
    seed: u32,
    number: u32,
    directories: u32,
) -> (GroupDescriptor, [Option<Ext4Block>; 2]) {
    let (start, end) = (Geometry::start(number), geometry.end(number));
    let first_free = used.blocks.first_free(number);
    // e2fsck needs the bitmap of the last group, because that group may be shorter.
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
    let checksum = |bitmap: &Option<Ext4Block>, bits: u32| {
        bitmap.as_ref().map_or(0, |bitmap| crc32c(seed, &bitmap[..bits as usize / 8]))
    };
    let block_bitmap = geometry.block_bitmap(number);
    let group = GroupDescriptor {
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

/// Bitmap of `size` bits whose first `used` bits are set. The bits after `size` are set as
/// well, because they stand for no block or inode.
fn bitmap(used: u64, size: u64) -> Ext4Block {
    let mut block = [0; BLOCK];
    for (byte, bits) in (0..).step_by(8).zip(&mut block) {
        for bit in 0..8 {
            let index: u64 = byte + bit;
            *bits |= u8::from(index < used || index >= size) << bit;
        }
    }
    block
}
