//! Reader of ext4: an image becomes a tree, and the contents of files stay in the image.
//!
//! Format: see `layout`. The image is not trusted, so work and memory are bounded: an inode
//! is read once; a block belongs to one directory; a directory has one name; [`Sets`] keeps
//! equal sets of attributes once and bounds them.

mod contents;
mod image;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use self::contents::{Ext4Contents, InlineContents};
use self::image::{BlockMap, Ext4Image};
use super::layout::dirents::{self, LOST_AND_FOUND};
use super::layout::inode::{self, BLOCK_MAP, Ext4Inode, flags};
use super::layout::xattrs;
use crate::disk_parts::DIRECTORY_DEPTH_MAX;
use crate::disk_parts::xattr_sets::Sets;
use crate::tree::{Content, Id, Kind, Meta, NANOSECONDS_MAX, Tree, Xattrs, kind_of, show};

/// Name in a directory, and its inode.
type NamedInode = (Box<[u8]>, u32);

/// Reads the ext2, ext3 or ext4 in `image` as a tree. An empty `lost+found` is left out,
/// because every ext4 has one.
///
/// # Errors
/// The image is no such file system, is damaged, or uses a feature that we do not read; or
/// its journal must be replayed first. Errors inside of the image name the path.
pub fn read(image: Arc<File>) -> Result<Tree> {
    let image = Arc::new(Ext4Image::open(image)?);
    let root = image.inode(inode::ROOT).context("/")?;
    ensure!(root.mode >> 12 == 0o4, "the root is not a directory: run e2fsck");
    let mut reader = Ext4Reader {
        tree: Tree::new(Meta::default()),
        image,
        known: HashMap::from([(inode::ROOT, Tree::ROOT)]),
        directory_blocks: HashSet::new(),
        attribute_blocks: HashMap::new(),
        sets: Sets::new(),
    };
    let (meta, inline) = reader.meta(&root).context("/")?;
    reader.tree.node_mut(Tree::ROOT).meta = meta;
    let names = reader.names(&root, inline.as_deref()).context("/")?;
    let mut pending = vec![(Tree::ROOT, 1, names)];
    while let Some((parent, depth, names)) = pending.pop() {
        for (name, number) in names {
            let added = reader.add(parent, &name, number).with_context(|| {
                let above = reader.tree.show_path_of(parent);
                format!("{}/{}", above.trim_end_matches('/'), show(&name))
            })?;
            if let Some((id, names)) = added {
                let fits = depth < DIRECTORY_DEPTH_MAX;
                ensure!(
                    fits,
                    "{}: more than {DIRECTORY_DEPTH_MAX} levels of directories",
                    reader.tree.show_path_of(id)
                );
                pending.push((id, depth + 1, names));
            }
        }
    }
    Ok(reader.tree)
}

/// State of a read.
struct Ext4Reader {
    image: Arc<Ext4Image>,
    tree: Tree,
    /// Node of each inode that was read.
    known: HashMap<u32, Id>,
    /// Blocks of the directories that were read.
    directory_blocks: HashSet<u64>,
    /// Attributes in each attribute block that was read. Many inodes may share a block.
    attribute_blocks: HashMap<u64, Xattrs>,
    sets: Sets,
}

impl Ext4Reader {
    /// Adds a name. If it is a new directory, returns its node and its names.
    fn add(
        &mut self,
        parent: Id,
        name: &[u8],
        number: u32,
    ) -> Result<Option<(Id, Vec<NamedInode>)>> {
        let is_new = self.tree.child(parent, name).is_none();
        ensure!(is_new, "the directory has this name twice: run e2fsck");
        if let Some(&id) = self.known.get(&number) {
            self.tree.link(parent, name, id)?;
            return Ok(None);
        }
        ensure!(self.image.is_unreserved(number), "inode {number} is reserved: run e2fsck");
        let inode = self.image.inode(number)?;
        let (meta, inline) = self.meta(&inode)?;
        let kind = self.kind(&inode, number, inline.as_deref())?;
        let names = match kind {
            Kind::Directory(_) => Some(self.names(&inode, inline.as_deref())?),
            _ => None,
        };
        let is_lost_and_found = parent == Tree::ROOT && name == LOST_AND_FOUND;
        if is_lost_and_found && names.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let id = self.tree.add(parent, name, meta, kind)?;
        self.known.insert(number, id);
        Ok(names.map(|names| (id, names)))
    }

    /// Reads the metadata of an inode. If its contents are stored in the inode, returns the
    /// part of them that is among the attributes; otherwise `None`.
    fn meta(&mut self, inode: &Ext4Inode) -> Result<(Meta, Option<Box<[u8]>>)> {
        let mut own = Xattrs::new();
        xattrs::decode_inode(&inode.xattrs, &mut own)?;
        let mut xattrs = match inode.xattr_block {
            0 => Xattrs::new(),
            block => self.attribute_block(block)?,
        };
        if !own.is_empty() {
            for (name, value) in &own {
                xattrs.insert(name.clone(), value.clone());
            }
        }
        let rest = xattrs.remove(xattrs::INLINE_DATA).unwrap_or_default();
        let is_inline = inode.flags & flags::INLINE_DATA != 0;
        let meta = Meta {
            permissions: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            nanoseconds: inode.nanoseconds.min(NANOSECONDS_MAX),
            xattrs: self.sets.keep(xattrs)?,
        };
        Ok((meta, is_inline.then_some(rest)))
    }

    /// Attributes in block `block`.
    fn attribute_block(&mut self, block: u64) -> Result<Xattrs> {
        if let Some(known) = self.attribute_blocks.get(&block) {
            return Ok(known.clone());
        }
        let mut xattrs = Xattrs::new();
        xattrs::decode_block(&self.image.block(block)?, &mut xattrs)?;
        let xattrs = self.sets.keep(xattrs)?;
        self.attribute_blocks.insert(block, xattrs.clone());
        Ok(xattrs)
    }

    /// Kind of the node that an inode describes; for a file, with its contents.
    fn kind(&self, inode: &Ext4Inode, number: u32, inline: Option<&[u8]>) -> Result<Kind> {
        ensure!(inode.flags & flags::ENCRYPT == 0, "not supported: its contents are encrypted");
        Ok(match inode.mode >> 12 {
            0o10 => Kind::File(self.content(inode, number, inline)?),
            0o12 => Kind::Symlink(self.target(inode, number, inline)?),
            _ => {
                kind_of(inode.mode.into(), inode::device_number(&inode.map)).with_context(|| {
                    format!(
                        "inode {number} has the mode {:o}, which is no file type: run e2fsck",
                        inode.mode
                    )
                })?
            }
        })
    }

    /// Contents of a file, by reference into the image.
    fn content(&self, inode: &Ext4Inode, number: u32, inline: Option<&[u8]>) -> Result<Content> {
        let size = inode.size;
        let blocks = size.div_ceil(self.image.block_size() as u64);
        ensure!(u32::try_from(blocks).is_ok(), "a file of {size} bytes: run e2fsck");
        if let Some(rest) = inline {
            let bytes = [&inode.map[..], rest].concat().into();
            return Ok(Content::Stored(Arc::new(InlineContents { bytes, size })));
        }
        let (image, map) = (Arc::clone(&self.image), BlockMap::of(inode));
        Ok(Content::Stored(Arc::new(Ext4Contents { image, number, map, size })))
    }

    /// Target of a symbolic link.
    fn target(&self, inode: &Ext4Inode, number: u32, inline: Option<&[u8]>) -> Result<Box<[u8]>> {
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        ensure!(
            (1..=self.image.block_size()).contains(&size),
            "a symbolic link of {size} bytes: run e2fsck"
        );
        if inline.is_none() && inode.flags & flags::EXTENTS == 0 && size < BLOCK_MAP {
            return Ok(inode.map[..size].into());
        }
        let mut target = Vec::with_capacity(size);
        self.content(inode, number, inline)?.open()?.read_to_end(&mut target)?;
        Ok(target.into())
    }

    /// Names of a directory.
    fn names(&mut self, inode: &Ext4Inode, inline: Option<&[u8]>) -> Result<Vec<NamedInode>> {
        /// Bytes of the parent's inode at the start of a directory in an inode
        /// (`EXT4_INLINE_DOTDOT_SIZE`).
        const PARENT: usize = 4;
        let mut names = Vec::new();
        if let Some(rest) = inline {
            dirents::parse(&inode.map[PARENT..], &mut names)?;
            dirents::parse(rest, &mut names)?;
            return Ok(names);
        }
        let map = BlockMap::of(inode);
        let blocks = inode.size / self.image.block_size() as u64;
        for at in 0..u32::try_from(blocks).context("the directory has more than 2^32 blocks")? {
            let (block, _) = self.image.find(&map, at)?;
            let block = block.context("the directory has a hole: run e2fsck")?;
            let bytes = self.image.block(block)?;
            let is_new = self.directory_blocks.insert(block);
            ensure!(is_new, "block {block} belongs to two directories: run e2fsck");
            dirents::parse(&bytes, &mut names)?;
        }
        Ok(names)
    }
}
