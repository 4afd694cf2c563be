//! Superblock of ext4.
//!
//! Format: kernel doc filesystems/ext4/super.rst, `struct ext4_super_block` in
//! `fs/ext4/ext4.h`, little endian. It has 1024 bytes, at byte 1024 of the image. Some
//! groups start with a copy; see [`has_superblock`](super::group::has_superblock).
//!
//! | At | Bytes | Field | At | Bytes | Field |
//! |---|---|---|---|---|---|
//! | 0x00 | 4 | `s_inodes_count` | 0x5c | 4 | `s_feature_compat` |
//! | 0x04 | 4 | `s_blocks_count_lo` | 0x60 | 4 | `s_feature_incompat` |
//! | 0x0c | 4 | `s_free_blocks_count_lo` | 0x64 | 4 | `s_feature_ro_compat` |
//! | 0x10 | 4 | `s_free_inodes_count` | 0x68 | 16 | `s_uuid` |
//! | 0x14 | 4 | `s_first_data_block` | 0x78 | 16 | `s_volume_name` |
//! | 0x18 | 4 | `s_log_block_size`: log2 of a block, minus 10 | 0xe0 | 4 | `s_journal_inum` |
//! | 0x1c | 4 | `s_log_cluster_size` | 0xec | 16 | `s_hash_seed` |
//! | 0x20 | 4 | `s_blocks_per_group` | 0xfc | 1 | `s_def_hash_version` |
//! | 0x24 | 4 | `s_clusters_per_group` | 0xfd | 1 | `s_jnl_backup_type`: 1 says that 0x10c is valid |
//! | 0x28 | 4 | `s_inodes_per_group` | 0xfe | 2 | `s_desc_size` |
//! | 0x30 | 4 | `s_wtime`: time of writing | 0x100 | 4 | `s_default_mount_opts` |
//! | 0x36 | 2 | `s_max_mnt_count` | 0x104 | 4 | `s_first_meta_bg` |
//! | 0x38 | 2 | `s_magic` | 0x108 | 4 | `s_mkfs_time`: time of creation |
//! | 0x3a | 2 | `s_state` | 0x10c | 68 | `s_jnl_blocks`: block map and size of the journal |
//! | 0x3c | 2 | `s_errors`: action on errors | 0x150 | 4 | `s_blocks_count_hi` |
//! | 0x40 | 4 | `s_lastcheck` | 0x158 | 4 | `s_free_blocks_count_hi` |
//! | 0x4c | 4 | `s_rev_level` | 0x15c | 2+2 | `s_min_extra_isize`, `s_want_extra_isize` |
//! | 0x54 | 4 | `s_first_ino` | 0x160 | 4 | `s_flags` |
//! | 0x58 | 2 | `s_inode_size` | 0x175 | 1 | `s_checksum_type` |
//! | 0x5a | 2 | `s_block_group_nr` | 0x274 | 4x1 | high bytes of the times |
//! | | | | 0x3fc | 4 | `s_checksum` |

use anyhow::{Result, ensure};

use super::bytes::{get, get_halves, get16, get32, low16, low32, put, put_halves, put16, put32};
use super::group::DESCRIPTOR_OLD;
use super::inode;
use crate::disk_parts::crc32c::crc32c;

/// Byte of the image where the superblock starts.
pub(in crate::ext4) const SUPERBLOCK_AT: u64 = 1024;

/// Bytes of the superblock (`struct ext4_super_block`).
pub(in crate::ext4) const SUPERBLOCK: usize = 1024;

/// Magic number (`EXT4_SUPER_MAGIC`).
const MAGIC: u16 = 0xef53;

/// Hash of directory names: half of MD4 (`DX_HASH_HALF_MD4`).
pub(in crate::ext4) const HALF_MD4: u8 = 1;

/// Bits of `s_feature_compat`.
pub(in crate::ext4) mod compat {
    /// The file system has a journal (`EXT4_FEATURE_COMPAT_HAS_JOURNAL`).
    pub(in crate::ext4) const HAS_JOURNAL: u32 = 0x4;
    /// Files may have extended attributes (`EXT4_FEATURE_COMPAT_EXT_ATTR`).
    pub(in crate::ext4) const EXT_ATTR: u32 = 0x8;
    /// Directories may have an index (`EXT4_FEATURE_COMPAT_DIR_INDEX`).
    pub(in crate::ext4) const DIR_INDEX: u32 = 0x20;
}

/// Bits of `s_feature_incompat`.
pub(in crate::ext4) mod incompat {
    /// Directory entries hold the file type (`EXT4_FEATURE_INCOMPAT_FILETYPE`).
    pub(in crate::ext4) const FILETYPE: u32 = 0x2;
    /// The journal must be replayed (`EXT4_FEATURE_INCOMPAT_RECOVER`).
    pub(in crate::ext4) const RECOVER: u32 = 0x4;
    /// Group descriptors are spread over the groups (`EXT4_FEATURE_INCOMPAT_META_BG`).
    pub(in crate::ext4) const META_BG: u32 = 0x10;
    /// Files may have extents (`EXT4_FEATURE_INCOMPAT_EXTENTS`).
    pub(in crate::ext4) const EXTENTS: u32 = 0x40;
    /// Block numbers have 64 bits, and descriptors 64 bytes
    /// (`EXT4_FEATURE_INCOMPAT_64BIT`).
    pub(in crate::ext4) const BIT64: u32 = 0x80;
    /// A block protects against a second mount (`EXT4_FEATURE_INCOMPAT_MMP`).
    pub(in crate::ext4) const MMP: u32 = 0x100;
    /// Bitmaps and inode tables may lie in other groups (`EXT4_FEATURE_INCOMPAT_FLEX_BG`).
    pub(in crate::ext4) const FLEX_BG: u32 = 0x200;
    /// The superblock stores the start of checksums (`EXT4_FEATURE_INCOMPAT_CSUM_SEED`).
    pub(in crate::ext4) const CSUM_SEED: u32 = 0x2000;
    /// Directories may have more than 2 GiB (`EXT4_FEATURE_INCOMPAT_LARGEDIR`).
    pub(in crate::ext4) const LARGEDIR: u32 = 0x4000;
    /// Small files may lie in their inodes (`EXT4_FEATURE_INCOMPAT_INLINE_DATA`).
    pub(in crate::ext4) const INLINE_DATA: u32 = 0x8000;
}

/// Bits of `s_feature_ro_compat`.
pub(in crate::ext4) mod ro_compat {
    /// Only some groups have a superblock (`EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER`).
    pub(in crate::ext4) const SPARSE_SUPER: u32 = 0x1;
    /// A block may belong to several files (`EXT4_FEATURE_RO_COMPAT_SHARED_BLOCKS`, used by
    /// Android only).
    pub(in crate::ext4) const SHARED_BLOCKS: u32 = 0x4000;

    /// A file may have more than 2 GiB (`EXT4_FEATURE_RO_COMPAT_LARGE_FILE`).
    const LARGE_FILE: u32 = 0x2;
    /// A file may have more than 2 TiB (`EXT4_FEATURE_RO_COMPAT_HUGE_FILE`).
    const HUGE_FILE: u32 = 0x8;
    /// A directory may have more subdirectories than links
    /// (`EXT4_FEATURE_RO_COMPAT_DIR_NLINK`).
    const DIR_NLINK: u32 = 0x20;
    /// Inodes have fields after the first 128 bytes (`EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE`).
    const EXTRA_ISIZE: u32 = 0x40;
    /// All metadata have checksums (`EXT4_FEATURE_RO_COMPAT_METADATA_CSUM`).
    const METADATA_CSUM: u32 = 0x400;

    /// All bits that the writer sets.
    pub(in crate::ext4) const WRITTEN: u32 =
        SPARSE_SUPER | LARGE_FILE | HUGE_FILE | DIR_NLINK | EXTRA_ISIZE | METADATA_CSUM;
}

/// Superblock, reduced to the fields that we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ext4) struct Ext4Superblock {
    /// Number of inodes (`s_inodes_count`).
    pub(in crate::ext4) inodes: u32,
    /// Number of blocks (`s_blocks_count`).
    pub(in crate::ext4) blocks: u64,
    /// Number of free blocks (`s_free_blocks_count`).
    pub(in crate::ext4) free_blocks: u64,
    /// Number of free inodes (`s_free_inodes_count`).
    pub(in crate::ext4) free_inodes: u32,
    /// Block where group 0 starts (`s_first_data_block`): 1 if a block has 1 KiB, otherwise 0.
    pub(in crate::ext4) first_data_block: u32,
    /// Base 2 logarithm of a block (`s_log_block_size` plus 10).
    pub(in crate::ext4) block_bits: u32,
    /// Blocks of a group (`s_blocks_per_group`).
    pub(in crate::ext4) blocks_per_group: u32,
    /// Inodes of a group (`s_inodes_per_group`).
    pub(in crate::ext4) inodes_per_group: u32,
    /// Time of creation, in seconds since 1970 (`s_mkfs_time`).
    pub(in crate::ext4) time: i64,
    /// First inode that is not reserved (`s_first_ino`).
    pub(in crate::ext4) first_inode: u32,
    /// Bytes of an inode (`s_inode_size`).
    pub(in crate::ext4) inode_size: u16,
    /// Bits of [`compat`].
    pub(in crate::ext4) compat: u32,
    /// Bits of [`incompat`].
    pub(in crate::ext4) incompat: u32,
    /// Bits of [`ro_compat`].
    pub(in crate::ext4) ro_compat: u32,
    /// UUID of the file system (`s_uuid`).
    pub(in crate::ext4) uuid: [u8; 16],
    /// Label, filled up with NUL (`s_volume_name`).
    pub(in crate::ext4) label: [u8; 16],
    /// Inode of the journal (`s_journal_inum`), or 0 if there is no journal.
    pub(in crate::ext4) journal_inode: u32,
    /// Copy of `i_block`, `i_size_high` and `i_size` of the journal's inode
    /// (`s_jnl_blocks`).
    pub(in crate::ext4) journal_map: [u8; 68],
    /// Start of the hashes of directories (`s_hash_seed`).
    pub(in crate::ext4) hash_seed: [u8; 16],
    /// Bytes of a group descriptor (`s_desc_size`).
    pub(in crate::ext4) descriptor_size: u16,
    /// First group of descriptors that are spread over the groups (`s_first_meta_bg`).
    pub(in crate::ext4) first_meta_group: u32,
}

impl Ext4Superblock {
    /// Encodes the copy of the superblock for group `group`.
    pub(in crate::ext4) fn encode(&self, group: u32) -> [u8; SUPERBLOCK] {
        /// Mount options `user_xattr` and `acl` (`EXT4_DEFM_XATTR_USER`, `EXT4_DEFM_ACL`).
        const MOUNT_OPTIONS: u32 = 0x4 | 0x8;
        /// Revision with inodes of any size (`EXT4_DYNAMIC_REV`).
        const DYNAMIC_REVISION: u32 = 1;
        /// State: the file system was unmounted cleanly (`EXT4_VALID_FS`).
        const VALID: u16 = 1;
        /// Action on errors: go on (`EXT4_ERRORS_CONTINUE`).
        const CONTINUE: u16 = 1;
        /// Flag: hashes of directories use unsigned bytes (`EXT2_FLAGS_UNSIGNED_HASH`).
        const UNSIGNED_HASH: u32 = 2;
        /// Type of the metadata checksums (`EXT4_CRC32C_CHKSUM`).
        const CRC32C: u8 = 1;
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
            (0x4c, DYNAMIC_REVISION),
            (0x54, self.first_inode),
            (0x5c, self.compat),
            (0x60, self.incompat),
            (0x64, self.ro_compat),
            (0xe0, self.journal_inode),
            (0x100, MOUNT_OPTIONS),
            (0x104, self.first_meta_group),
            (0x108, time),
            (0x160, UNSIGNED_HASH),
        ] {
            put32(&mut bytes, at, value);
        }
        put_halves(&mut bytes, 0x04, 0x150, self.blocks);
        put_halves(&mut bytes, 0x0c, 0x158, self.free_blocks);
        for (at, value) in [
            (0x36, u16::MAX),
            (0x38, MAGIC),
            (0x3a, VALID),
            (0x3c, CONTINUE),
            (0x58, self.inode_size),
            (0x5a, low16(group)),
            (0xfe, self.descriptor_size),
            (0x15c, inode::EXTRA),
            (0x15e, inode::EXTRA),
        ] {
            put16(&mut bytes, at, value);
        }
        put(&mut bytes, 0x68, self.uuid);
        put(&mut bytes, 0x78, self.label);
        put(&mut bytes, 0xec, self.hash_seed);
        bytes[0xfc] = HALF_MD4;
        bytes[0xfd] = u8::from(self.journal_inode != 0);
        put(&mut bytes, 0x10c, self.journal_map);
        bytes[0x175] = CRC32C;
        let high = self.time.to_le_bytes()[4];
        for at in [0x274, 0x276, 0x277] {
            bytes[at] = high;
        }
        let checksum = crc32c(!0, &bytes[..0x3fc]);
        put32(&mut bytes, 0x3fc, checksum);
        bytes
    }

    /// Decodes a superblock, and checks the sizes that we divide or shift by.
    ///
    /// # Errors
    /// The magic number is missing, or a size is impossible.
    pub(in crate::ext4) fn decode(bytes: &[u8; SUPERBLOCK]) -> Result<Self> {
        ensure!(
            get16(bytes, 0x38) == MAGIC,
            "this is no ext4 file system: its magic number is missing"
        );
        let is_old = get32(bytes, 0x4c) == 0;
        let incompat = get32(bytes, 0x60);
        let wide = incompat & incompat::BIT64 != 0;
        let number = |low, high| match wide {
            true => get_halves(bytes, low, high),
            false => u64::from(get32(bytes, low)),
        };
        let block_bits = get32(bytes, 0x18).saturating_add(10);
        ensure!(
            block_bits <= 16,
            "the superblock says blocks of 2^{block_bits} bytes, not 1-64 KiB: run e2fsck"
        );
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
            first_inode: if is_old { inode::FIRST } else { get32(bytes, 0x54) },
            inode_size: if is_old { inode::OLD_SIZE } else { get16(bytes, 0x58) },
            compat: get32(bytes, 0x5c),
            incompat,
            ro_compat: get32(bytes, 0x64),
            uuid: get(bytes, 0x68),
            label: get(bytes, 0x78),
            journal_inode: get32(bytes, 0xe0),
            journal_map: get(bytes, 0x10c),
            hash_seed: get(bytes, 0xec),
            descriptor_size: if wide { get16(bytes, 0xfe) } else { DESCRIPTOR_OLD },
            first_meta_group: get32(bytes, 0x104),
        };
        let is_size = |value: u32, least: u32| {
            value.is_power_of_two() && (least..=block_size).contains(&value)
        };
        let inode_size = u32::from(superblock.inode_size);
        let descriptor = u32::from(superblock.descriptor_size);
        for (what, value, fits) in [
            ("bytes of an inode", inode_size, is_size(inode_size, inode::OLD_SIZE.into())),
            ("bytes of a group descriptor", descriptor, is_size(descriptor, DESCRIPTOR_OLD.into())),
            ("blocks per group", superblock.blocks_per_group, superblock.blocks_per_group > 0),
            ("inodes per group", superblock.inodes_per_group, superblock.inodes_per_group > 0),
        ] {
            ensure!(fits, "the superblock says {value} {what}: run e2fsck");
        }
        Ok(superblock)
    }
}
