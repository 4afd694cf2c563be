//! Writes a file system: data in the order of the inodes, then bitmaps and
//! descriptors, and the superblock last.
//!
//! Blocks of zeros are not written: the image is sparse, and so are its files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::bytes::{BLOCK, BLOCK_BITS, ZEROS, crc32c, put, put32, small, uuid_with_checksum};
use super::disk::{Disk, Space, Table};
use super::extents::{Builder, Place};
use super::geometry::{Blocks, Geometry, PER_GROUP};
use super::groups::{self, Used};
use super::inode::{self, Inode, MAP};
use super::layout::{DESCRIPTOR, RO_COMPAT, Superblock, compat, incompat};
use super::plan::{FAST_LINK_MAX, LINKS_MAX, LOST_AND_FOUND_BLOCKS, Plan};
use super::{Options, Size, dirents, journal, plan, xattrs};
use crate::disk::identity::Image;
use crate::progress::Progress;
use crate::tree::{Content, Id, Kind, Node, Tree, mode};

/// Sectors of a block, in which an inode counts.
const UNITS: u64 = BLOCK as u64 / 512;

/// Writes the file system of `tree` into the empty or old file `out`.
pub(super) fn write(tree: &Tree, options: &Options, out: &File, progress: &Progress) -> Result<()> {
    let plan = Plan::new(tree, options)?;
    let size = match options.size {
        Size::Exact(bytes) => bytes,
        Size::Slack { .. } => plan.geometry.blocks * BLOCK as u64,
    };
    out.set_len(0).and_then(|()| out.set_len(size)).context("set the size of the image")?;
    let image = Image::new(out, options.given_uuid());
    let space = Space { disk: Disk::new(&image), blocks: Blocks::new(&plan.geometry) };
    let seed = crc32c(!0, &options.hash_seed());
    let directories = vec![0; plan.geometry.groups as usize];
    let table = Table::new(&image);
    let plan = &plan;
    let mut writer = Writer {
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
    let used = Used {
        blocks: &writer.space.blocks,
        last_inode: plan.last_inode,
        directories: &writer.directories,
    };
    groups::write(out, &plan.geometry, &used, writer.superblock(uuid))
}

#[derive(Debug)]
struct Writer<'a> {
    tree: &'a Tree,
    options: &'a Options,
    plan: &'a Plan,
    space: Space<'a>,
    /// Where checksums start.
    seed: u32,
    table: Table<'a>,
    /// Directories of each group.
    directories: Vec<u32>,
    /// The journal's map and size, for the superblock.
    journal: [u8; 68],
    /// Its first block.
    journal_block: Option<u64>,
    progress: &'a Progress,
}

/// What a node keeps in its inode about its contents.
struct Body {
    map: [u8; MAP],
    size: u64,
    blocks: u64,
    flags: u32,
}

impl Body {
    /// Nothing but what fits into the place of the map.
    fn without_blocks(text: &[u8], size: usize) -> Self {
        let mut map = [0; MAP];
        map[..text.len()].copy_from_slice(text);
        Self { map, size: size as u64, blocks: 0, flags: 0 }
    }
}

impl Writer<'_> {
    /// Writes all contents and their inodes.
    fn inodes(&mut self) -> Result<()> {
        let mut places = self.plan.order.iter();
        if let Some(root) = places.next() {
            self.node(root.id, inode::ROOT, root.parent)?;
        }
        if self.plan.journal > 0 {
            self.journal()?;
        }
        if let Some(number) = self.plan.lost_and_found {
            self.lost_and_found(number)?;
        }
        for place in places {
            let number = self.plan.numbers.get(&place.id).copied().unwrap_or_default();
            self.node(place.id, number, place.parent)?;
        }
        self.table.flush()
    }

    fn node(&mut self, id: Id, number: u32, parent: u32) -> Result<()> {
        self.write_node(id, number, parent).with_context(|| self.tree.show_path_of(id))
    }

    fn write_node(&mut self, id: Id, number: u32, parent: u32) -> Result<()> {
        let node = self.tree.node(id);
        self.progress.node();
        let body = match &node.kind {
            Kind::Directory(_) => self.directory(id, number, parent)?,
            Kind::File(content) => self.file(content, number)?,
            Kind::Symlink(target) if target.len() <= FAST_LINK_MAX => {
                Body::without_blocks(target, target.len())
            }
            Kind::Symlink(target) => self.file(&Content::Bytes((**target).into()), number)?,
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                Body::without_blocks(&inode::device(*major, *minor), 0)
            }
            Kind::Fifo | Kind::Socket => Body::without_blocks(&[], 0),
        };
        let mut xattrs = xattrs::encode(&node.meta.xattrs)?;
        let mut xattr_block = 0;
        if let Some(block) = &mut xattrs.block {
            xattr_block = self.space.blocks.take()?;
            xattrs::seal(block, self.seed, xattr_block);
            self.space.disk.write(xattr_block, block)?;
        }
        let inode = Inode {
            mode: u16::try_from(mode(node))?,
            uid: node.meta.uid,
            gid: node.meta.gid,
            size: body.size,
            links: self.links(id, node),
            units: (body.blocks + u64::from(xattr_block > 0)) * UNITS,
            flags: body.flags,
            map: body.map,
            xattr_block,
            mtime: node.meta.mtime,
            body: xattrs.body,
        };
        self.put(number, &inode)
    }

    /// `i_links_count` of a node.
    fn links(&self, id: Id, node: &Node) -> u16 {
        let Kind::Directory(children) = &node.kind else {
            return u16::try_from(node.names).unwrap_or(u16::MAX);
        };
        let is_directory = |child: &&Id| self.tree.children(**child).is_some();
        let added = usize::from(id == Tree::ROOT && self.plan.lost_and_found.is_some());
        directory_links(added + children.values().filter(is_directory).count())
    }

    fn put(&mut self, number: u32, inode: &Inode) -> Result<()> {
        /// `st_mode` of a directory without its permissions.
        const DIRECTORY: u16 = 0o4;
        let (group, _) = self.plan.geometry.inode_place(number);
        self.directories[group as usize] += u32::from(inode.mode >> 12 == DIRECTORY);
        let at = self.plan.geometry.inode_at(number);
        self.table.put(at, inode.encode(self.seed, number))
    }

    fn file(&mut self, content: &Content, number: u32) -> Result<Body> {
        let mut extents = Builder::new(inode::seed(self.seed, number));
        let (mut blocks, mut told) = (0, 0);
        plan::for_blocks(content, &mut |at, block| {
            let seen = content.size().min((u64::from(at) + 1) * BLOCK as u64);
            self.progress.add(seen - told);
            told = seen;
            if *block == ZEROS {
                return Ok(());
            }
            let place = self.space.place(block)?;
            blocks += 1;
            extents.push(at, place, &mut self.space)
        })?;
        self.progress.add(content.size() - told);
        let (map, nodes) = extents.finish(&mut self.space)?;
        Ok(Body { map, size: content.size(), blocks: blocks + nodes, flags: inode::flags::EXTENTS })
    }

    fn directory(&mut self, id: Id, number: u32, parent: u32) -> Result<Body> {
        let directory = self.plan.directory(self.tree, id, self.options)?;
        let seed = inode::seed(self.seed, number);
        let mut blocks = Vec::with_capacity(directory.blocks());
        directory.write(dirents::dots(number, parent), seed, &mut |block| {
            blocks.push(self.space.place(block)?);
            Ok(())
        })?;
        let index = if directory.has_index() { inode::flags::INDEX } else { 0 };
        self.map(&blocks, number, index)
    }

    /// The map of a file whose blocks are these.
    fn map(&mut self, blocks: &[u64], number: u32, flags: u32) -> Result<Body> {
        let mut extents = Builder::new(inode::seed(self.seed, number));
        for (at, &block) in (0..).zip(blocks) {
            extents.push(at, block, &mut self.space)?;
        }
        let (map, nodes) = extents.finish(&mut self.space)?;
        let count = blocks.len() as u64;
        let flags = inode::flags::EXTENTS | flags;
        Ok(Body { map, size: count * BLOCK as u64, blocks: count + nodes, flags })
    }

    fn lost_and_found(&mut self, number: u32) -> Result<()> {
        const MODE: u16 = 0o040_700;
        let seed = inode::seed(self.seed, number);
        let first = dirents::block(dirents::dots(number, inode::ROOT), seed);
        let mut blocks = vec![self.space.place(&first)?];
        for _ in 1..LOST_AND_FOUND_BLOCKS {
            blocks.push(self.space.place(&dirents::block([], seed))?);
        }
        let body = self.map(&blocks, number, 0)?;
        self.put(number, &self.own(MODE, 2, &body))
    }

    fn journal(&mut self) -> Result<()> {
        const MODE: u16 = 0o100_600;
        // The journal's superblock has the UUID and is written later.
        let mut blocks = vec![self.space.blocks.take()?];
        self.journal_block = blocks.first().copied();
        for _ in 1..self.plan.journal {
            blocks.push(self.space.blocks.take()?);
        }
        let body = self.map(&blocks, inode::JOURNAL, 0)?;
        put(&mut self.journal, 0, body.map);
        let size = u32::try_from(body.size).context("size of the journal")?;
        put32(&mut self.journal, MAP + 4, size);
        self.put(inode::JOURNAL, &self.own(MODE, 1, &body))
    }

    /// All that is known of it before the groups are counted.
    fn superblock(&self, uuid: [u8; 16]) -> Superblock {
        let Geometry { blocks, inodes_per_group, .. } = self.plan.geometry;
        let has_journal = self.plan.journal > 0;
        let journal = if has_journal { compat::HAS_JOURNAL } else { 0 };
        Superblock {
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
            ro_compat: RO_COMPAT,
            uuid,
            label: self.options.label,
            journal_inode: if has_journal { inode::JOURNAL } else { 0 },
            journal_map: self.journal,
            hash_seed: self.options.hash_seed(),
            descriptor_size: small(DESCRIPTOR),
            first_meta_group: 0,
        }
    }

    /// An inode of the file system's own.
    fn own(&self, mode: u16, links: u16, body: &Body) -> Inode {
        Inode {
            mode,
            uid: 0,
            gid: 0,
            size: body.size,
            links,
            units: body.blocks * UNITS,
            flags: body.flags,
            map: body.map,
            xattr_block: 0,
            mtime: self.options.time,
            body: Vec::new(),
        }
    }
}

/// Links of a directory with so many in it: its name, its `.`, and their `..`; 1
/// where those are too many (dir_nlink).
fn directory_links(directories: usize) -> u16 {
    u16::try_from(2 + directories).ok().filter(|&links| links <= LINKS_MAX).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_directories_end_where_they_are_too_many() {
        for (directories, links) in [(0, 2), (64_998, 65_000), (64_999, 1), (70_000, 1)] {
            assert_eq!(directory_links(directories), links);
        }
    }
}
