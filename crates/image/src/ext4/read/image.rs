//! ext4 image that is being read: its superblock, its inodes and its blocks.
//!
//! Format: see `layout`, and kernel doc filesystems/ext4/ifork.rst, "Direct/Indirect Block
//! Addressing". The image is not trusted, so every number is checked before its use.
//! Checksums are not verified; e2fsck(8) does that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::ext4::layout::bytes::get32;
use crate::ext4::layout::extents::{self, ExtentLookup};
use crate::ext4::layout::group::{GroupDescriptor, has_superblock};
use crate::ext4::layout::inode::{BLOCK_MAP, Ext4Inode, flags};
use crate::ext4::layout::superblock::{
    Ext4Superblock, SUPERBLOCK, SUPERBLOCK_AT, incompat, ro_compat,
};
use crate::tree::file_length;

/// Bits of `s_feature_incompat` that the reader understands.
const READABLE: u32 = incompat::FILETYPE
    | incompat::META_BG
    | incompat::EXTENTS
    | incompat::BIT64
    | incompat::MMP
    | incompat::FLEX_BG
    | incompat::CSUM_SEED
    | incompat::LARGEDIR
    | incompat::INLINE_DATA;

/// Bits of `s_feature_incompat` that the reader refuses, with their names in ext4(5):
/// `EXT4_FEATURE_INCOMPAT_COMPRESSION`, `…_RECOVER`, `…_JOURNAL_DEV`, `…_EA_INODE`,
/// `…_DIRDATA`, `…_ENCRYPT`, `…_CASEFOLD`.
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

/// Image that is being read.
#[derive(Debug)]
pub(super) struct Ext4Image {
    file: Arc<File>,
    superblock: Ext4Superblock,
}

/// Block map of a file; see [`Ext4Image::find`].
#[derive(Clone, Debug)]
pub(super) struct BlockMap {
    bytes: [u8; BLOCK_MAP],
    has_extents: bool,
}

/// Run of consecutive blocks: the first block in the image, or `None` for a hole, and the
/// number of blocks.
pub(super) type BlockRun = (Option<u64>, u32);

impl BlockMap {
    /// Block map of `inode`, whose contents must be stored in blocks.
    pub(super) fn of(inode: &Ext4Inode) -> Self {
        Self { bytes: inode.map, has_extents: inode.flags & flags::EXTENTS != 0 }
    }
}

impl Ext4Image {
    /// Opens the image in `file`.
    ///
    /// # Errors
    /// The file holds no ext2, ext3 or ext4, or one that we do not read.
    pub(super) fn open(file: Arc<File>) -> Result<Self> {
        let mut bytes = [0; SUPERBLOCK];
        file.read_exact_at(&mut bytes, SUPERBLOCK_AT)
            .context("this is no ext4 file system: it is too short for a superblock")?;
        let superblock = Ext4Superblock::decode(&bytes)?;
        for (feature, problem) in REFUSED {
            ensure!(superblock.incompat & feature == 0, "ext4 with {problem}");
        }
        let unknown = superblock.incompat & !READABLE;
        ensure!(unknown == 0, "not supported: ext4 with the unknown features {unknown:#x}");
        let length = file_length(&file).context("find the end of the image")?;
        let fits = superblock.blocks <= length >> superblock.block_bits;
        ensure!(
            fits,
            "the image is cut off: it should have {} blocks, and has {length} bytes",
            superblock.blocks
        );
        Ok(Self { file, superblock })
    }

    /// The file that holds the image.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Most bytes of data that one file can have.
    pub(super) fn data_max(&self) -> u64 {
        match self.superblock.ro_compat & ro_compat::SHARED_BLOCKS {
            0 => self.superblock.blocks.saturating_mul(self.block_size() as u64),
            _ => u64::MAX,
        }
    }

    /// Number of bytes of a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.superblock.block_bits
    }

    /// Fills `buffer` from byte `offset` of block `block` on.
    pub(super) fn read(&self, block: u64, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bits = self.superblock.block_bits;
        let is_inside = block > 0 && block < self.superblock.blocks;
        let blocks_left = if is_inside { self.superblock.blocks - block } else { 0 };
        let fits = (blocks_left << bits).checked_sub(offset) >= Some(buffer.len() as u64);
        ensure!(fits, "block {block} is outside of the file system: run e2fsck");
        let start = (block << bits) + offset;
        self.file.read_exact_at(buffer, start).with_context(|| format!("read block {block}"))
    }

    /// Reads a whole block.
    pub(super) fn block(&self, block: u64) -> Result<Vec<u8>> {
        let mut buffer = vec![0; self.block_size()];
        self.read(block, 0, &mut buffer)?;
        Ok(buffer)
    }

    /// Reads inode `number`.
    pub(super) fn inode(&self, number: u32) -> Result<Ext4Inode> {
        let Ext4Superblock { inodes, inodes_per_group, inode_size, .. } = self.superblock;
        ensure!((1..=inodes).contains(&number), "there is no inode {number}: run e2fsck");
        let (group, index) = ((number - 1) / inodes_per_group, (number - 1) % inodes_per_group);
        let table = self.inode_table(group)?;
        let mut bytes = vec![0; inode_size.into()];
        self.read(table, u64::from(index) * u64::from(inode_size), &mut bytes)?;
        Ok(Ext4Inode::decode(&bytes))
    }

    /// Whether inode `number` is not reserved for the file system itself.
    pub(super) fn is_unreserved(&self, number: u32) -> bool {
        number >= self.superblock.first_inode
    }

    /// First block of the inode table of `group`.
    fn inode_table(&self, group: u32) -> Result<u64> {
        let superblock = &self.superblock;
        let size = u32::from(superblock.descriptor_size);
        let per_block = (1 << superblock.block_bits) / size;
        let index = group / per_block;
        let is_spread = superblock.incompat & incompat::META_BG != 0;
        let block = match is_spread && index > 0 && index >= superblock.first_meta_group {
            true => {
                let group = index * per_block;
                // In an old file system, every group has a superblock.
                let is_sparse = superblock.ro_compat & ro_compat::SPARSE_SUPER != 0;
                let copy = !is_sparse || has_superblock(group);
                let start = u64::from(group) * u64::from(superblock.blocks_per_group);
                u64::from(superblock.first_data_block) + start + u64::from(copy)
            }
            // Do not count from the first data block: that is 0 if clusters are used.
            false => (SUPERBLOCK_AT >> superblock.block_bits) + 1 + u64::from(index),
        };
        let mut descriptor = vec![0; size as usize];
        self.read(block, u64::from(group % per_block * size), &mut descriptor)?;
        Ok(GroupDescriptor::inode_table(&descriptor))
    }

    /// Finds block `at` of the file with this block map.
    pub(super) fn find(&self, map: &BlockMap, at: u32) -> Result<BlockRun> {
        match map.has_extents {
            true => self.find_extent(map, at),
            false => self.find_pointer(map, at),
        }
    }

    /// Finds a block in an extent tree.
    fn find_extent(&self, map: &BlockMap, at: u32) -> Result<BlockRun> {
        let (mut found, mut depth) = extents::look(&map.bytes, at, None)?;
        let mut end = u32::MAX;
        loop {
            match found {
                ExtentLookup::Data(block, count) => return Ok((Some(block), count)),
                ExtentLookup::Hole(count) => return Ok((None, count.min(end - at).max(1))),
                ExtentLookup::Child(child, next) => {
                    end = end.min(next);
                    // The child must be one level lower, so the loop ends.
                    (found, depth) = extents::look(&self.block(child)?, at, Some(depth - 1))?;
                }
            }
        }
    }

    /// Finds a block in the block map of ext2: 12 direct pointers, and trees of one, two and
    /// three levels of pointer blocks.
    fn find_pointer(&self, map: &BlockMap, at: u32) -> Result<BlockRun> {
        /// Direct pointers (`EXT4_NDIR_BLOCKS`).
        const DIRECT: u64 = 12;
        let per_block = (self.block_size() / 4) as u64;
        // Pointer in the inode, number of blocks below it, and index of the block there.
        let (mut slot, mut span, mut index) = (u64::from(at), 1, 0);
        if slot >= DIRECT {
            (slot, span, index) = (DIRECT, per_block, u64::from(at) - DIRECT);
            while index >= span {
                index -= span;
                slot += 1;
                span *= per_block;
            }
        }
        ensure!(
            slot < (BLOCK_MAP / 4) as u64,
            "the file has more blocks than its pointers can reach: run e2fsck"
        );
        let mut pointer = get32(&map.bytes, usize::try_from(slot)? * 4);
        while pointer != 0 && span > 1 {
            span /= per_block;
            let mut bytes = [0; 4];
            self.read(pointer.into(), index / span * 4, &mut bytes)?;
            pointer = u32::from_le_bytes(bytes);
            index %= span;
        }
        Ok(match pointer {
            0 => (None, u32::try_from(span - index).unwrap_or(u32::MAX)),
            block => (Some(block.into()), 1),
        })
    }
}
