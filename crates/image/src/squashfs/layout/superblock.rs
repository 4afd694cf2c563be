//! Superblock of squashfs.
//!
//! Format: `struct squashfs_super_block` in `fs/squashfs/squashfs_fs.h`, little endian, 96
//! bytes at byte 0 of the image. A table that does not exist has the address `-1`.
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | `s_magic` |
//! | 4 | 4 | `inodes`: number of inodes |
//! | 8 | 4 | `mkfs_time` |
//! | 12 | 4 | `block_size` |
//! | 16 | 4 | `fragments`: number of fragments |
//! | 20 | 2 | `compression`: number of the compressor |
//! | 22 | 2 | `block_log`: base 2 logarithm of the block size |
//! | 24 | 2 | `flags` |
//! | 26 | 2 | `no_ids`: number of owners and groups |
//! | 28 | 2+2 | `s_major`, `s_minor` |
//! | 32 | 8 | `root_inode`: reference of the root's inode |
//! | 40 | 8 | `bytes_used` |
//! | 48 | 8 | `id_table_start`: owners and groups |
//! | 56 | 8 | `xattr_id_table_start` |
//! | 64 | 8 | `inode_table_start` |
//! | 72 | 8 | `directory_table_start` |
//! | 80 | 8 | `fragment_table_start` |
//! | 88 | 8 | `lookup_table_start`: inodes by number, for NFS |

use anyhow::{Result, ensure};

use super::fields::Fields;
use super::units::BLOCK_LOGS;
use crate::squashfs::compressor::Compressor;

/// Bits of `flags`.
pub(in crate::squashfs) mod flag {
    /// Ends of large files are in fragments as well (`SQUASHFS_ALWAYS_FRAG`).
    pub(in crate::squashfs) const ALWAYS_FRAGMENTS: u16 = 0x20;
    /// No inode has attributes (`SQUASHFS_NO_XATTR` of squashfs-tools).
    pub(in crate::squashfs) const NO_XATTRS: u16 = 0x200;
    /// Options of the compressor follow the superblock (`SQUASHFS_COMP_OPT`).
    pub(in crate::squashfs) const OPTIONS: u16 = 0x400;
}

/// Magic number (`SQUASHFS_MAGIC`).
const MAGIC: &[u8; 4] = b"hsqs";
/// Version of the format (`SQUASHFS_MAJOR`, `SQUASHFS_MINOR`).
const VERSION: (u16, u16) = (4, 0);

/// Superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::squashfs) struct SquashfsSuperblock {
    /// Number of inodes.
    pub inodes: u32,
    /// Build time in seconds since 1970 (`mkfs_time`).
    pub time: u32,
    /// Base 2 logarithm of the block size.
    pub block_log: u16,
    /// Number of fragments.
    pub fragments: u32,
    /// Compressor of all blocks (`compression`).
    pub compressor: Compressor,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Number of owners and groups (`no_ids`).
    pub ids: u16,
    /// Reference of the root's inode (`root_inode`).
    pub root: u64,
    /// Bytes of the image without padding at its end.
    pub bytes_used: u64,
    /// Address of the table of owners and groups (`id_table_start`).
    pub id_table: u64,
    /// Address of the table of attributes (`xattr_id_table_start`).
    pub xattr_table: u64,
    /// Address of the inodes (`inode_table_start`).
    pub inode_table: u64,
    /// Address of the names (`directory_table_start`).
    pub directory_table: u64,
    /// Address of the table of fragments (`fragment_table_start`).
    pub fragment_table: u64,
    /// Address of the inodes by number, for NFS (`lookup_table_start`).
    pub lookup_table: u64,
}

impl SquashfsSuperblock {
    /// Bytes of the superblock (`struct squashfs_super_block`).
    pub(in crate::squashfs) const SIZE: usize = 96;

    /// Number of bytes of a block.
    pub(in crate::squashfs) fn block_size(&self) -> usize {
        1 << self.block_log
    }

    /// Encodes the superblock.
    pub(in crate::squashfs) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.inodes, self.time, 1 << self.block_log, self.fragments] {
            out.extend(number.to_le_bytes());
        }
        let (major, minor) = VERSION;
        let compressor = self.compressor.number();
        for number in [compressor, self.block_log, self.flags, self.ids, major, minor] {
            out.extend(number.to_le_bytes());
        }
        let tables = [
            self.root,
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.lookup_table,
        ];
        out.extend(tables.into_iter().flat_map(u64::to_le_bytes));
        out
    }

    /// Decodes the superblock at the start of `bytes`.
    ///
    /// # Errors
    /// The magic number, the version, the block size or the compressor is wrong.
    pub(in crate::squashfs) fn decode(mut bytes: &[u8]) -> Result<Self> {
        let fields = &mut bytes;
        ensure!(fields.array()? == *MAGIC, "this is no squashfs: the magic number is wrong");
        let (inodes, time) = (fields.u32()?, fields.u32()?);
        let (block_size, fragments) = (fields.u32()?, fields.u32()?);
        let (compressor, block_log) = (fields.u16()?, fields.u16()?);
        let (flags, ids) = (fields.u16()?, fields.u16()?);
        let (major, minor) = (fields.u16()?, fields.u16()?);
        ensure!((major, minor) == VERSION, "not supported: squashfs {major}.{minor}; only 4.0 is");
        ensure!(
            BLOCK_LOGS.contains(&block_log) && block_size == 1 << block_log,
            "the superblock says blocks of {block_size} and of 2^{block_log} bytes"
        );
        Ok(Self {
            inodes,
            time,
            block_log,
            fragments,
            compressor: Compressor::by_number(compressor)?,
            flags,
            ids,
            root: fields.u64()?,
            bytes_used: fields.u64()?,
            id_table: fields.u64()?,
            xattr_table: fields.u64()?,
            inode_table: fields.u64()?,
            directory_table: fields.u64()?,
            fragment_table: fields.u64()?,
            lookup_table: fields.u64()?,
        })
    }
}
