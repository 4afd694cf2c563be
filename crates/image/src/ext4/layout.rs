//! The superblock and the group descriptors as bytes.
//!
//! Format: kernel doc filesystems/ext4/{super,group_descr}.rst; all little-endian.
//!
//! Superblock, 1024 bytes at byte 1024 of the image, and copies of it at the
//! start of groups 1, 3^n, 5^n and 7^n (sparse_super):
//!
//! | At | Bytes | Field | At | Bytes | Field |
//! |---|---|---|---|---|---|
//! | 0x00 | 4 | inodes | 0x5c | 4 | compatible features |
//! | 0x04 | 4 | blocks, low | 0x60 | 4 | incompatible features |
//! | 0x0c | 4 | free blocks, low | 0x64 | 4 | features for reading only |
//! | 0x10 | 4 | free inodes | 0x68 | 16 | UUID |
//! | 0x14 | 4 | first data block | 0x78 | 16 | label |
//! | 0x18 | 4 | log2(block size) - 10 | 0xe0 | 4 | journal's inode |
//! | 0x1c | 4 | the same of a cluster | 0xec | 16 | seed of directory hashes |
//! | 0x20 | 4 | blocks per group | 0xfc | 1 | directory hash: 1 half MD4 |
//! | 0x24 | 4 | clusters per group | 0xfd | 1 | 1: 0x10c holds a copy |
//! | 0x28 | 4 | inodes per group | 0xfe | 2 | bytes of a group descriptor |
//! | 0x30 | 4 | time of writing | 0x100 | 4 | default mount options |
//! | 0x36 | 2 | mounts until a check | 0x104 | 4 | first group of meta_bg |
//! | 0x38 | 2 | magic | 0x108 | 4 | time of making |
//! | 0x3a | 2 | state: 1 clean | 0x10c | 68 | journal's block map and size |
//! | 0x3c | 2 | on errors: 1 continue | 0x150 | 4 | blocks, high |
//! | 0x40 | 4 | time of last check | 0x158 | 4 | free blocks, high |
//! | 0x4c | 4 | revision: 1 | 0x15c | 2+2 | least, wanted extra bytes of inodes |
//! | 0x54 | 4 | first free inode | 0x160 | 4 | flags: 2 unsigned hashes |
//! | 0x58 | 2 | bytes of an inode | 0x175 | 1 | checksum: 1 CRC-32C |
//! | 0x5a | 2 | group of this copy | 0x274 | 4x1 | high bytes of the times |
//! | | | | 0x3fc | 4 | checksum |
//!
//! Group descriptor, 64 bytes, or 32 without feature 64bit (low halves only):
//!
//! | Low | High | Bytes | Field |
//! |---|---|---|---|
//! | 0x00 | 0x20 | 4 | block bitmap |
//! | 0x04 | 0x24 | 4 | inode bitmap |
//! | 0x08 | 0x28 | 4 | inode table |
//! | 0x0c | 0x2c | 2 | free blocks |
//! | 0x0e | 0x2e | 2 | free inodes |
//! | 0x10 | 0x30 | 2 | directories |
//! | 0x12 | | 2 | flags: 1 inodes, 2 blocks not initialized, 4 inode table is zeroed |
//! | 0x18 | 0x38 | 2 | checksum of the block bitmap |
//! | 0x1a | 0x3a | 2 | checksum of the inode bitmap |
//! | 0x1c | 0x32 | 2 | inodes at the end of the table that were never used |
//! | 0x1e | | 2 | checksum |

use anyhow::{Result, ensure};

use super::bytes::{
    crc32c, get, get_halves, get16, get32, low16, low32, put, put_halves, put_quarters, put16,
    put32,
};

/// Where the superblock is.
pub(super) const SUPERBLOCK_AT: u64 = 1024;

/// Bytes of it.
pub(super) const SUPERBLOCK: usize = 1024;

/// Bytes of a group descriptor with feature 64bit.
pub(super) const DESCRIPTOR: usize = 64;

const MAGIC: u16 = 0xef53;

/// `s_feature_compat`.
pub(super) mod compat {
    /// There is a journal.
    pub(in super::super) const HAS_JOURNAL: u32 = 0x4;
    /// There are extended attributes.
    pub(in super::super) const EXT_ATTR: u32 = 0x8;
    /// Directories may have an index.
    pub(in super::super) const DIR_INDEX: u32 = 0x20;
}

/// `s_feature_incompat`.
pub(super) mod incompat {
    /// Directory entries tell the type.
    pub(in super::super) const FILETYPE: u32 = 0x2;
    /// The journal has to be replayed.
    pub(in super::super) const RECOVER: u32 = 0x4;
    /// Descriptors are spread over the groups.
    pub(in super::super) const META_BG: u32 = 0x10;
    /// Files have extents.
    pub(in super::super) const EXTENTS: u32 = 0x40;
    /// Block numbers and descriptors are wide.
    pub(in super::super) const BIT64: u32 = 0x80;
    /// Multiple mount protection.
    pub(in super::super) const MMP: u32 = 0x100;
    /// Bitmaps and tables may be in other groups.
    pub(in super::super) const FLEX_BG: u32 = 0x200;
    /// The checksums' seed is stored.
    pub(in super::super) const CSUM_SEED: u32 = 0x2000;
    /// Directories of more than 2 GiB.
    pub(in super::super) const LARGEDIR: u32 = 0x4000;
    /// Small files are in their inodes.
    pub(in super::super) const INLINE_DATA: u32 = 0x8000;
}

/// `s_feature_ro_compat`: `sparse_super`, `large_file`, `huge_file`, `dir_nlink`,
/// `extra_isize`, `metadata_csum`.
pub(super) const RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

/// `bg_flags`.
pub(super) mod group_flags {
    /// No inode of the group was ever used.
    pub(in super::super) const INODE_UNINIT: u16 = 1;
    /// No block of the group is used but for its own bitmaps and tables.
    pub(in super::super) const BLOCK_UNINIT: u16 = 2;
    /// The inode table is zero where it is not used.
    pub(in super::super) const INODE_ZEROED: u16 = 4;
}

/// The superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) inodes: u32,
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) first_data_block: u32,
    /// log2 of a block's bytes.
    pub(super) block_bits: u32,
    pub(super) blocks_per_group: u32,
    pub(super) inodes_per_group: u32,
    pub(super) time: i64,
    pub(super) first_inode: u32,
    pub(super) inode_size: u16,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    /// 0: none.
    pub(super) journal_inode: u32,
    /// `i_block`, `i_size_high`, `i_size` of the journal.
    pub(super) journal_map: [u8; 68],
    pub(super) hash_seed: [u8; 16],
    pub(super) descriptor_size: u16,
    pub(super) first_meta_group: u32,
}

impl Superblock {
    /// Encodes the copy in group `group`.
    pub(super) fn encode(&self, group: u32) -> [u8; SUPERBLOCK] {
        /// `s_default_mount_opts`: user_xattr and acl.
        const MOUNT_OPTIONS: u32 = 0x4 | 0x8;
        let mut bytes = [0; SUPERBLOCK];
        let time = low32(self.time.cast_unsigned());
        for (at, value) in [
            (0x00, self.inodes),
            (0x10, self.free_inodes),
            (0x14, self.first_data_block),
            (0x18, self.block_bits - 10),
            (0x1c, self.block_bits - 10),
            (0x20, self.blocks_per_group),
            (0x24, self.blocks_per_group),
            (0x28, self.inodes_per_group),
            (0x30, time),
            (0x40, time),
            (0x4c, 1),
            (0x54, self.first_inode),
            (0x5c, self.compat),
            (0x60, self.incompat),
            (0x64, self.ro_compat),
            (0xe0, self.journal_inode),
            (0x100, MOUNT_OPTIONS),
            (0x104, self.first_meta_group),
            (0x108, time),
            (0x160, 2),
        ] {
            put32(&mut bytes, at, value);
        }
        put_halves(&mut bytes, 0x04, 0x150, self.blocks);
        put_halves(&mut bytes, 0x0c, 0x158, self.free_blocks);
        for (at, value) in [
            (0x36, u16::MAX),
            (0x38, MAGIC),
            (0x3a, 1),
            (0x3c, 1),
            (0x58, self.inode_size),
            (0x5a, low16(group)),
            (0xfe, self.descriptor_size),
            (0x15c, super::inode::EXTRA),
            (0x15e, super::inode::EXTRA),
        ] {
            put16(&mut bytes, at, value);
        }
        put(&mut bytes, 0x68, self.uuid);
        put(&mut bytes, 0x78, self.label);
        put(&mut bytes, 0xec, self.hash_seed);
        bytes[0xfc] = 1;
        bytes[0xfd] = u8::from(self.journal_inode != 0);
        put(&mut bytes, 0x10c, self.journal_map);
        bytes[0x175] = 1;
        let high = self.time.to_le_bytes()[4];
        for at in [0x274, 0x276, 0x277] {
            bytes[at] = high;
        }
        let checksum = crc32c(!0, &bytes[..0x3fc]);
        put32(&mut bytes, 0x3fc, checksum);
        bytes
    }

    /// Decodes what the image says, and checks what the arithmetic relies on.
    pub(super) fn decode(bytes: &[u8; SUPERBLOCK]) -> Result<Self> {
        ensure!(get16(bytes, 0x38) == MAGIC, "no ext4 file system: its magic number is missing");
        let is_old = get32(bytes, 0x4c) == 0;
        let incompat = get32(bytes, 0x60);
        let wide = incompat & incompat::BIT64 != 0;
        let number = |low, high| match wide {
            true => get_halves(bytes, low, high),
            false => u64::from(get32(bytes, low)),
        };
        let block_bits = get32(bytes, 0x18).saturating_add(10);
        ensure!(block_bits <= 16, "superblock: blocks of 2^{block_bits} bytes, not 1-64 KiB");
        let block_size = 1 << block_bits;
        let superblock = Self {
            inodes: get32(bytes, 0x00),
            blocks: number(0x04, 0x150),
            free_blocks: number(0x0c, 0x158),
            free_inodes: get32(bytes, 0x10),
            first_data_block: get32(bytes, 0x14),
            block_bits,
            blocks_per_group: get32(bytes, 0x20),
            inodes_per_group: get32(bytes, 0x28),
            time: i64::from(get32(bytes, 0x108)) | i64::from(bytes[0x276]) << 32,
            first_inode: if is_old { 11 } else { get32(bytes, 0x54) },
            inode_size: if is_old { 128 } else { get16(bytes, 0x58) },
            compat: get32(bytes, 0x5c),
            incompat,
            ro_compat: get32(bytes, 0x64),
            uuid: get(bytes, 0x68),
            label: get(bytes, 0x78),
            journal_inode: get32(bytes, 0xe0),
            journal_map: get(bytes, 0x10c),
            hash_seed: get(bytes, 0xec),
            descriptor_size: if wide { get16(bytes, 0xfe) } else { 32 },
            first_meta_group: get32(bytes, 0x104),
        };
        let is_size = |value: u32, least: u32| {
            value.is_power_of_two() && (least..=block_size).contains(&value)
        };
        let inode = u32::from(superblock.inode_size);
        let descriptor = u32::from(superblock.descriptor_size);
        for (what, value, fits) in [
            ("bytes of an inode", inode, is_size(inode, 128)),
            ("bytes of a group descriptor", descriptor, is_size(descriptor, 32)),
            ("blocks per group", superblock.blocks_per_group, superblock.blocks_per_group > 0),
            ("inodes per group", superblock.inodes_per_group, superblock.inodes_per_group > 0),
        ] {
            ensure!(fits, "superblock: {value} {what}: run e2fsck");
        }
        Ok(superblock)
    }
}

/// A group descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    pub(super) flags: u16,
    pub(super) block_bitmap_checksum: u32,
    pub(super) inode_bitmap_checksum: u32,
    pub(super) never_used: u32,
}

impl Group {
    /// Encodes the descriptor of group `number`.
    pub(super) fn encode(&self, seed: u32, number: u32) -> [u8; DESCRIPTOR] {
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

    /// The inode table of a descriptor of 32 or more bytes.
    pub(super) fn inode_table(bytes: &[u8]) -> u64 {
        match bytes.len() >= DESCRIPTOR {
            true => get_halves(bytes, 0x08, 0x28),
            false => get32(bytes, 0x08).into(),
        }
    }
}
