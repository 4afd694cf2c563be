//! Writer of ext4: it writes the data in the order of the inodes, then the bitmaps and the
//! descriptors, and last the superblock.
//!
//! Format: see `layout`. Blocks of zeros are not written, so the image file is sparse, and
//! the files in it are as well.

mod disk;
mod extent_tree;
mod geometry;
mod groups;
mod htree;
mod journal;
mod plan;

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use self::disk::{BlockWriter, FreeSpace, InodeTableWriter};
use self::extent_tree::{BlockSink, ExtentTreeBuilder};
use self::geometry::{DataBlocks, Geometry, PER_GROUP};
use self::groups::UsedSpace;
use self::plan::{Ext4Plan, FAST_LINK_MAX, LINKS_MAX, LOST_AND_FOUND_BLOCKS};
use super::layout::bytes::{BLOCK, BLOCK_BITS, ZEROS, put, put32, small, uuid_with_checksum};
use super::layout::group::DESCRIPTOR;
use super::layout::inode::{self, BLOCK_MAP, Ext4Inode};
use super::layout::superblock::{Ext4Superblock, compat, incompat, ro_compat};
use super::layout::{dirents, xattrs};
use super::options::{Ext4Options, Ext4Size};
use crate::disk_parts::crc32c::crc32c;
use crate::disk_parts::identity::Image;
use crate::progress::Progress;
use crate::tree::{Content, Id, Kind, Node, Tree, mode};

/// Units of 512 bytes in a block, as `i_blocks` counts them.
const UNITS: u64 = BLOCK as u64 / 512;

/// Writes `tree` as ext4 into the regular file `out`. The old contents of `out` are lost.
/// Blocks of zeros become holes of the files and of the image.
///
/// # Errors
/// ext4 cannot hold a node, or the tree does not fit into the requested size; nothing is
/// written then. Or a file cannot be read.
pub fn write(tree: &Tree, options: &Ext4Options, out: &File, progress: &Progress) -> Result<()> {
    let plan = Ext4Plan::new(tree, options)?;
    let size = match options.size {
        Ext4Size::Exact(bytes) => bytes,
        Ext4Size::Slack { .. } => plan.geometry.blocks * BLOCK as u64,
    };
    out.set_len(0).and_then(|()| out.set_len(size)).context("set the size of the image")?;
    let image = Image::new(out, options.given_uuid());
    let space =
        FreeSpace { disk: BlockWriter::new(&image), blocks: DataBlocks::new(&plan.geometry) };
    let seed = crc32c(!0, &options.hash_seed());
    let directories = vec![0; plan.geometry.groups as usize];
    let table = InodeTableWriter::new(&image);
    let plan = &plan;
    let mut writer = Ext4Writer {
        tree,
        options,
        plan,
        space,
        seed,
        table,
        directories,
        journal: [0; 68],
        journal_block: None,
        progress,
    };
    writer.inodes()?;
    writer.space.disk.flush()?;
    let uuid = match image.uuid() {
        Some(hash) => uuid_with_checksum(hash, seed),
        None => options.hash_seed(),
    };
    if let Some(block) = writer.journal_block {
        let journal = journal::superblock(plan.journal, uuid);
        out.write_all_at(&journal, block * BLOCK as u64).context("write the journal")?;
    }
    let used = UsedSpace {
        blocks: &writer.space.blocks,
        last_inode: plan.last_inode,
        directories: &writer.directories,
    };
    groups::write(out, &plan.geometry, &used, writer.superblock(uuid))
}

/// State of a write.
#[derive(Debug)]
struct Ext4Writer<'a> {
    tree: &'a Tree,
    options: &'a Ext4Options,
    plan: &'a Ext4Plan,
    space: FreeSpace<'a>,
    /// Start of the file system's checksums.
    seed: u32,
    table: InodeTableWriter<'a>,
    /// Number of directories in each group.
    directories: Vec<u32>,
    /// Block map and size of the journal, for the superblock (`s_jnl_blocks`).
    journal: [u8; 68],
    /// First block of the journal.
    journal_block: Option<u64>,
    progress: &'a Progress,
}

/// Fields of an inode that depend on the contents of the node.
struct InodeContents {
    map: [u8; BLOCK_MAP],
    size: u64,
    /// Number of blocks, with those of the extent tree.
    blocks: u64,
    flags: u32,
}

impl InodeContents {
    /// Contents that are stored in the place of the block map.
    fn without_blocks(text: &[u8], size: usize) -> Self {
        let mut map = [0; BLOCK_MAP];
        map[..text.len()].copy_from_slice(text);
        Self { map, size: size as u64, blocks: 0, flags: 0 }
    }
}

impl Ext4Writer<'_> {
    /// Writes all contents and their inodes.
    fn inodes(&mut self) -> Result<()> {
        let mut nodes = self.plan.order.iter();
        if let Some(root) = nodes.next() {
            self.node(root.id, inode::ROOT, root.parent)?;
        }
        if self.plan.journal > 0 {
            self.journal()?;
        }
        if let Some(number) = self.plan.lost_and_found {
            self.lost_and_found(number)?;
        }
        for node in nodes {
            let number = self.plan.numbers.get(&node.id).copied().unwrap_or_default();
            self.node(node.id, number, node.parent)?;
        }
        self.table.flush()
    }

    /// Writes a node; errors name its path.
    fn node(&mut self, id: Id, number: u32, parent: u32) -> Result<()> {
        self.write_node(id, number, parent).with_context(|| self.tree.show_path_of(id))
    }

    /// Writes the contents, the attributes and the inode of a node.
    fn write_node(&mut self, id: Id, number: u32, parent: u32) -> Result<()> {
        let node = self.tree.node(id);
        self.progress.node();
        let contents = match &node.kind {
            Kind::Directory(_) => self.directory(id, number, parent)?,
            Kind::File(content) => self.file(content, number)?,
            Kind::Symlink(target) if target.len() <= FAST_LINK_MAX => {
                InodeContents::without_blocks(target, target.len())
            }
            Kind::Symlink(target) => self.file(&Content::Bytes((**target).into()), number)?,
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                InodeContents::without_blocks(&inode::device(*major, *minor), 0)
            }
            Kind::Fifo | Kind::Socket => InodeContents::without_blocks(&[], 0),
        };
        let mut xattrs = xattrs::encode(&node.meta.xattrs)?;
        let mut xattr_block = 0;
        if let Some(block) = &mut xattrs.block {
            xattr_block = self.space.blocks.take()?;
            xattrs::seal(block, self.seed, xattr_block);
            self.space.disk.write(xattr_block, block)?;
        }
        let inode = Ext4Inode {
            mode: u16::try_from(mode(node))?,
            uid: node.meta.uid,
            gid: node.meta.gid,
            size: contents.size,
            links: self.links(id, node),
            units: (contents.blocks + u64::from(xattr_block > 0)) * UNITS,
            flags: contents.flags,
            map: contents.map,
            xattr_block,
            mtime: node.meta.mtime,
            nanoseconds: node.meta.nanoseconds,
            xattrs: xattrs.in_inode,
        };
        self.put(number, &inode)
    }

    /// Number of hard links of a node (`i_links_count`).
    fn links(&self, id: Id, node: &Node) -> u16 {
        let Kind::Directory(children) = &node.kind else {
            return u16::try_from(node.names).unwrap_or(u16::MAX);
        };
        let is_directory = |child: &&Id| self.tree.children(**child).is_some();
        let added = usize::from(id == Tree::ROOT && self.plan.lost_and_found.is_some());
        directory_links(added + children.values().filter(is_directory).count())
    }

    /// Writes inode `number`.
    fn put(&mut self, number: u32, inode: &Ext4Inode) -> Result<()> {
        /// Type of a directory in the upper bits of the mode (`S_IFDIR >> 12`).
        const DIRECTORY: u16 = 0o4;
        let (group, _) = self.plan.geometry.inode_index(number);
        self.directories[group as usize] += u32::from(inode.mode >> 12 == DIRECTORY);
        let at = self.plan.geometry.inode_at(number);
        self.table.put(at, inode.encode(self.seed, number))
    }

    /// Writes the blocks of a file that are not zero.
    fn file(&mut self, content: &Content, number: u32) -> Result<InodeContents> {
        let mut extents = ExtentTreeBuilder::new(inode::seed(self.seed, number));
        let (mut blocks, mut counted) = (0, 0);
        plan::for_blocks(content, &mut |at, block| {
            let seen = content.size().min((u64::from(at) + 1) * BLOCK as u64);
            self.progress.add(seen - counted);
            counted = seen;
            if *block == ZEROS {
                return Ok(());
            }
            let stored = self.space.append(block)?;
            blocks += 1;
            extents.push(at, stored, &mut self.space)
        })?;
        self.progress.add(content.size() - counted);
        let (map, nodes) = extents.finish(&mut self.space)?;
        Ok(InodeContents {
            map,
            size: content.size(),
            blocks: blocks + nodes,
            flags: inode::flags::EXTENTS,
        })
    }

    /// Writes the blocks of a directory.
    fn directory(&mut self, id: Id, number: u32, parent: u32) -> Result<InodeContents> {
        let directory = self.plan.directory(self.tree, id, self.options)?;
        let seed = inode::seed(self.seed, number);
        let mut blocks = Vec::with_capacity(directory.blocks());
        directory.write(dirents::dots(number, parent), seed, &mut |block| {
            blocks.push(self.space.append(block)?);
            Ok(())
        })?;
        let index = if directory.has_index() { inode::flags::INDEX } else { 0 };
        self.map(&blocks, number, index)
    }

    /// Builds the extent tree of inode `number`, whose contents are in `blocks`.
    fn map(&mut self, blocks: &[u64], number: u32, flags: u32) -> Result<InodeContents> {
        let mut extents = ExtentTreeBuilder::new(inode::seed(self.seed, number));
        for (at, &block) in (0..).zip(blocks) {
            extents.push(at, block, &mut self.space)?;
        }
        let (map, nodes) = extents.finish(&mut self.space)?;
        let count = blocks.len() as u64;
        let flags = inode::flags::EXTENTS | flags;
        Ok(InodeContents { map, size: count * BLOCK as u64, blocks: count + nodes, flags })
    }

    /// Writes an empty `lost+found` as inode `number`.
    fn lost_and_found(&mut self, number: u32) -> Result<()> {
        /// Mode of the directory (`S_IFDIR` and 0700).
        const MODE: u16 = 0o040_700;
        let seed = inode::seed(self.seed, number);
        let first = dirents::block(dirents::dots(number, inode::ROOT), seed);
        let mut blocks = vec![self.space.append(&first)?];
        for _ in 1..LOST_AND_FOUND_BLOCKS {
            blocks.push(self.space.append(&dirents::block([], seed))?);
        }
        let contents = self.map(&blocks, number, 0)?;
        self.put(number, &self.own(MODE, 2, &contents))
    }

    /// Reserves the blocks of the journal and writes its inode.
    fn journal(&mut self) -> Result<()> {
        /// Mode of the journal (`S_IFREG` and 0600).
        const MODE: u16 = 0o100_600;
        // The superblock of the journal holds the UUID, so it is written later.
        let mut blocks = vec![self.space.blocks.take()?];
        self.journal_block = blocks.first().copied();
        for _ in 1..self.plan.journal {
            blocks.push(self.space.blocks.take()?);
        }
        let contents = self.map(&blocks, inode::JOURNAL, 0)?;
        put(&mut self.journal, 0, contents.map);
        let size = u32::try_from(contents.size).context("the journal is too large")?;
        put32(&mut self.journal, BLOCK_MAP + 4, size);
        self.put(inode::JOURNAL, &self.own(MODE, 1, &contents))
    }

    /// Superblock without the numbers of free blocks and inodes.
    fn superblock(&self, uuid: [u8; 16]) -> Ext4Superblock {
        let Geometry { blocks, inodes_per_group, .. } = self.plan.geometry;
        let has_journal = self.plan.journal > 0;
        let journal = if has_journal { compat::HAS_JOURNAL } else { 0 };
        Ext4Superblock {
            inodes: self.plan.geometry.inodes(),
            blocks,
            free_blocks: 0,
            free_inodes: 0,
            first_data_block: 0,
            block_bits: BLOCK_BITS,
            blocks_per_group: PER_GROUP,
            inodes_per_group,
            time: self.options.time,
            first_inode: inode::FIRST,
            inode_size: 1 << inode::SIZE_BITS,
            compat: compat::EXT_ATTR | compat::DIR_INDEX | journal,
            incompat: incompat::FILETYPE | incompat::EXTENTS | incompat::BIT64,
            ro_compat: ro_compat::WRITTEN,
            uuid,
            label: self.options.label,
            journal_inode: if has_journal { inode::JOURNAL } else { 0 },
            journal_map: self.journal,
            hash_seed: self.options.hash_seed(),
            descriptor_size: small(DESCRIPTOR),
            first_meta_group: 0,
        }
    }

    /// Inode of a file that belongs to the file system itself and not to the tree.
    fn own(&self, mode: u16, links: u16, contents: &InodeContents) -> Ext4Inode {
        Ext4Inode {
            mode,
            uid: 0,
            gid: 0,
            size: contents.size,
            links,
            units: contents.blocks * UNITS,
            flags: contents.flags,
            map: contents.map,
            xattr_block: 0,
            mtime: self.options.time,
            nanoseconds: 0,
            xattrs: Vec::new(),
        }
    }
}

/// Link count of a directory: its name, its `.`, and the `..` of each of its subdirectories.
/// If these are too many, the count is 1 (`EXT4_FEATURE_RO_COMPAT_DIR_NLINK`).
fn directory_links(directories: usize) -> u16 {
    u16::try_from(2 + directories).ok().filter(|&links| links <= LINKS_MAX).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_count_of_a_large_directory_is_one() {
        for (directories, links) in [(0, 2), (64_998, 65_000), (64_999, 1), (70_000, 1)] {
            assert_eq!(directory_links(directories), links);
        }
    }
}
