//! Group descriptors of ext4.
//!
//! Format: kernel doc filesystems/ext4/group_descr.rst, `struct ext4_group_desc` in
//! `fs/ext4/ext4.h`, little endian. A descriptor has 64 bytes, or 32 without the feature
//! 64bit; the short form has the low halves only:
//!
//! | Low | High | Bytes | Field |
//! |---|---|---|---|
//! | 0x00 | 0x20 | 4 | `bg_block_bitmap`: block of the block bitmap |
//! | 0x04 | 0x24 | 4 | `bg_inode_bitmap`: block of the inode bitmap |
//! | 0x08 | 0x28 | 4 | `bg_inode_table`: first block of the inode table |
//! | 0x0c | 0x2c | 2 | `bg_free_blocks_count` |
//! | 0x0e | 0x2e | 2 | `bg_free_inodes_count` |
//! | 0x10 | 0x30 | 2 | `bg_used_dirs_count`: directories |
//! | 0x12 | | 2 | `bg_flags` |
//! | 0x18 | 0x38 | 2 | `bg_block_bitmap_csum` |
//! | 0x1a | 0x3a | 2 | `bg_inode_bitmap_csum` |
//! | 0x1c | 0x32 | 2 | `bg_itable_unused`: inodes at the end of the table that were never used |
//! | 0x1e | | 2 | `bg_checksum` |

use super::bytes::{get_halves, get32, low16, put_halves, put_quarters, put16};
use crate::disk_parts::crc32c::crc32c;

/// Bytes of a group descriptor with the feature 64bit (`EXT4_MIN_DESC_SIZE_64BIT`).
pub(in crate::ext4) const DESCRIPTOR: usize = 64;

/// Bytes of a group descriptor without the feature 64bit (`EXT4_MIN_DESC_SIZE`).
pub(in crate::ext4) const DESCRIPTOR_OLD: u16 = 32;

/// Bits of `bg_flags`.
pub(in crate::ext4) mod group_flags {
    /// No inode of the group was ever used (`EXT4_BG_INODE_UNINIT`).
    pub(in crate::ext4) const INODE_UNINIT: u16 = 1;
    /// The group uses no blocks but those of its bitmaps and tables
    /// (`EXT4_BG_BLOCK_UNINIT`).
    pub(in crate::ext4) const BLOCK_UNINIT: u16 = 2;
    /// The unused part of the inode table is zero (`EXT4_BG_INODE_ZEROED`).
    pub(in crate::ext4) const INODE_ZEROED: u16 = 4;
}

/// Group descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ext4) struct GroupDescriptor {
    /// Block of the block bitmap (`bg_block_bitmap`).
    pub(in crate::ext4) block_bitmap: u64,
    /// Block of the inode bitmap (`bg_inode_bitmap`).
    pub(in crate::ext4) inode_bitmap: u64,
    /// First block of the inode table (`bg_inode_table`).
    pub(in crate::ext4) inode_table: u64,
    /// Number of free blocks (`bg_free_blocks_count`).
    pub(in crate::ext4) free_blocks: u32,
    /// Number of free inodes (`bg_free_inodes_count`).
    pub(in crate::ext4) free_inodes: u32,
    /// Number of directories (`bg_used_dirs_count`).
    pub(in crate::ext4) directories: u32,
    /// Bits of [`group_flags`].
    pub(in crate::ext4) flags: u16,
    /// Checksum of the block bitmap (`bg_block_bitmap_csum`).
    pub(in crate::ext4) block_bitmap_checksum: u32,
    /// Checksum of the inode bitmap (`bg_inode_bitmap_csum`).
    pub(in crate::ext4) inode_bitmap_checksum: u32,
    /// Inodes at the end of the table that were never used (`bg_itable_unused`).
    pub(in crate::ext4) never_used: u32,
}

impl GroupDescriptor {
    /// Encodes the descriptor of group `number`. `seed` is the start of the file system's
    /// checksums.
    pub(in crate::ext4) fn encode(&self, seed: u32, number: u32) -> [u8; DESCRIPTOR] {
        let mut bytes = [0; DESCRIPTOR];
        put_halves(&mut bytes, 0x00, 0x20, self.block_bitmap);
        put_halves(&mut bytes, 0x04, 0x24, self.inode_bitmap);
        put_halves(&mut bytes, 0x08, 0x28, self.inode_table);
        put_quarters(&mut bytes, 0x0c, 0x2c, self.free_blocks);
        put_quarters(&mut bytes, 0x0e, 0x2e, self.free_inodes);
        put_quarters(&mut bytes, 0x10, 0x30, self.directories);
        put16(&mut bytes, 0x12, self.flags);
        put_quarters(&mut bytes, 0x18, 0x38, self.block_bitmap_checksum);
        put_quarters(&mut bytes, 0x1a, 0x3a, self.inode_bitmap_checksum);
        put_quarters(&mut bytes, 0x1c, 0x32, self.never_used);
        let checksum = crc32c(crc32c(seed, &number.to_le_bytes()), &bytes);
        put16(&mut bytes, 0x1e, low16(checksum));
        bytes
    }

    /// First block of the inode table, from an encoded descriptor of at least 32 bytes.
    pub(in crate::ext4) fn inode_table(bytes: &[u8]) -> u64 {
        match bytes.len() >= DESCRIPTOR {
            true => get_halves(bytes, 0x08, 0x28),
            false => get32(bytes, 0x08).into(),
        }
    }
}

/// Whether `group` has a copy of the superblock and of all descriptors
/// (`EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER`): groups 0 and 1, and powers of 3, 5 and 7.
pub(in crate::ext4) fn has_superblock(group: u32) -> bool {
    let is_power = |base: u32| {
        let mut power = base;
        while power < group {
            power = power.saturating_mul(base);
        }
        power == group
    };
    group < 2 || [3, 5, 7].into_iter().any(is_power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_groups_have_a_superblock() {
        let with: Vec<_> = (0..130).filter(|&group| has_superblock(group)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }
}
