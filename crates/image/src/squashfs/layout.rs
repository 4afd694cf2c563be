//! squashfs on disk: constants and the superblock.
//!
//! Format: `fs/squashfs/squashfs_fs.h`. All numbers are little endian; where no
//! other origin is given, addresses count bytes from the image's start.
//!
//! Superblock, at byte 0: 0 magic, 4 inodes, 8 time, 12 block size, 16 fragments,
//! 20 compressor (u16), 22 base 2 logarithm of the block size (u16), 24 flags
//! (u16), 26 owners (u16), 28 version 4 (u16), 30 version 0 (u16), 32 reference of
//! the root's inode (u64), 40 bytes used (u64); then addresses (u64) of the tables
//! of 48 owners, 56 attributes, 64 inodes, 72 names, 80 fragments, 88 inodes by
//! number; 96 bytes. A table that is not there has all bits set.
//!
//! A reference is the address of a metadata block, from the start of its table,
//! shifted left by 16 bits, and an offset into what it unpacks to.
//!
//! A block of contents is told by 32 bits: its packed bytes, and a bit where they
//! are as they were; 0 is a block of zeros. A fragment (16 bytes): 0 address (u64),
//! 8 the same 32 bits, 12 unused.

use anyhow::{Context, Result, ensure};

use super::compressor::Compressor;

/// Bytes that a metadata block unpacks to, but for the last one of a table.
pub(super) const METADATA: usize = 8192;
/// Set in the length of a metadata block that is not compressed.
pub(super) const METADATA_PLAIN: u16 = 1 << 15;
/// Set in the length of a block of contents that is not compressed.
pub(super) const BLOCK_PLAIN: u32 = 1 << 24;
/// Instead of a number: no fragment, or no attributes.
pub(super) const NONE: u32 = u32::MAX;
/// Instead of an address: no such table.
pub(super) const NO_TABLE: u64 = u64::MAX;
/// Base 2 logarithms of the least and the largest block.
pub(super) const BLOCK_LOGS: std::ops::RangeInclusive<u16> = 12..=20;
/// Bytes of a fragment in its table.
pub(super) const FRAGMENT: usize = 16;

/// Superblock.
pub(super) mod flag {
    /// Ends of large files are in fragments as well.
    pub(in super::super) const ALWAYS_FRAGMENTS: u16 = 0x20;
    pub(in super::super) const NO_XATTRS: u16 = 0x200;
    /// Options of the compressor follow the superblock.
    pub(in super::super) const OPTIONS: u16 = 0x400;
}

const MAGIC: &[u8; 4] = b"hsqs";
const VERSION: (u16, u16) = (4, 0);

/// Numbers one after another.
pub(super) trait Fields {
    /// The next bytes.
    ///
    /// # Errors
    /// Fewer than asked for.
    fn fill(&mut self, out: &mut [u8]) -> Result<()>;

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.fill(&mut out).map(|()| out)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

impl Fields for &[u8] {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let (bytes, rest) = self.split_at_checked(out.len()).context("it is cut off")?;
        out.copy_from_slice(bytes);
        *self = rest;
        Ok(())
    }
}

/// The superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub inodes: u32,
    pub time: u32,
    /// Base 2 logarithm of a block.
    pub block_log: u16,
    pub fragments: u32,
    pub compressor: Compressor,
    pub flags: u16,
    /// Owners and groups.
    pub ids: u16,
    /// Reference of the root's inode.
    pub root: u64,
    pub bytes_used: u64,
    pub id_table: u64,
    pub xattr_table: u64,
    pub inode_table: u64,
    pub directory_table: u64,
    pub fragment_table: u64,
    /// Inodes by number, for NFS.
    pub lookup_table: u64,
}

impl Superblock {
    /// Bytes on disk.
    pub(super) const SIZE: usize = 96;

    /// Bytes of a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.block_log
    }

    pub(super) fn encode(&self) -> Vec<u8> {
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

    /// # Errors
    /// Another format or version; a block size or compressor that there is not.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self> {
        let fields = &mut bytes;
        ensure!(fields.array()? == *MAGIC, "no squashfs: the magic number is wrong");
        let (inodes, time) = (fields.u32()?, fields.u32()?);
        let (block_size, fragments) = (fields.u32()?, fields.u32()?);
        let (compressor, block_log) = (fields.u16()?, fields.u16()?);
        let (flags, ids) = (fields.u16()?, fields.u16()?);
        let (major, minor) = (fields.u16()?, fields.u16()?);
        ensure!((major, minor) == VERSION, "not supported: squashfs {major}.{minor}, only 4.0");
        ensure!(
            BLOCK_LOGS.contains(&block_log) && block_size == 1 << block_log,
            "a block size of {block_size} bytes and 2^{block_log}"
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
