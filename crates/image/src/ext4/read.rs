//! Reads a file system as a tree.
//!
//! Memory and time are bounded by what the image really has: an inode is read
//! once, a block belongs to one directory, a directory has one name; equal sets
//! of attributes are kept once and are bounded ([`Sets`]).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::contents::{Contents, Inline};
use super::inode::{self, Inode, MAP, flags};
use super::plan::LOST_AND_FOUND;
use super::volume::{Map, Volume};
use super::{dirents, xattrs};
use crate::disk::xattr_sets::Sets;
use crate::tree::{Content, Id, Kind, Meta, Tree, Xattrs, kind_of, show};

/// Directories below each other: a path of `PATH_MAX` bytes has no more.
const DEPTH_MAX: usize = 2048;

/// A name and its inode.
type Named = (Box<[u8]>, u32);

/// Reads the file system in `image`; an empty `lost+found` is left out.
pub(super) fn read(image: Arc<File>) -> Result<Tree> {
    let volume = Arc::new(Volume::open(image)?);
    let root = volume.inode(inode::ROOT).context("/")?;
    ensure!(root.mode >> 12 == 0o4, "the root is not a directory: run e2fsck");
    let mut reader = Reader {
        tree: Tree::new(Meta::default()),
        volume,
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
                let fits = depth < DEPTH_MAX;
                ensure!(fits, "{}: more than {DEPTH_MAX} levels", reader.tree.show_path_of(id));
                pending.push((id, depth + 1, names));
            }
        }
    }
    Ok(reader.tree)
}

struct Reader {
    volume: Arc<Volume>,
    tree: Tree,
    /// Inodes that have been read.
    known: HashMap<u32, Id>,
    /// Blocks that are a directory's.
    directory_blocks: HashSet<u64>,
    /// Attributes in blocks of their own, by block: many inodes may share one.
    attribute_blocks: HashMap<u64, Xattrs>,
    sets: Sets,
}

impl Reader {
    /// Adds a name; gives a directory and its names where it was one.
    fn add(&mut self, parent: Id, name: &[u8], number: u32) -> Result<Option<(Id, Vec<Named>)>> {
        let is_new = self.tree.child(parent, name).is_none();
        ensure!(is_new, "the name is there twice: run e2fsck");
        if let Some(&id) = self.known.get(&number) {
            self.tree.link(parent, name, id)?;
            return Ok(None);
        }
        ensure!(self.volume.is_free_for_all(number), "inode {number} has no name: run e2fsck");
        let inode = self.volume.inode(number)?;
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

    /// Metadata of an inode, and what of its contents is among its attributes;
    /// `None` where those are in blocks.
    fn meta(&mut self, inode: &Inode) -> Result<(Meta, Option<Box<[u8]>>)> {
        let mut body = Xattrs::new();
        xattrs::decode_body(&inode.body, &mut body)?;
        let mut xattrs = match inode.xattr_block {
            0 => Xattrs::new(),
            block => self.attribute_block(block)?,
        };
        if !body.is_empty() {
            for (name, value) in &body {
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
            xattrs: self.sets.keep(xattrs)?,
        };
        Ok((meta, is_inline.then_some(rest)))
    }

    /// The attributes in block `block`.
    fn attribute_block(&mut self, block: u64) -> Result<Xattrs> {
        if let Some(known) = self.attribute_blocks.get(&block) {
            return Ok(known.clone());
        }
        let mut xattrs = Xattrs::new();
        xattrs::decode_block(&self.volume.block(block)?, &mut xattrs)?;
        let xattrs = self.sets.keep(xattrs)?;
        self.attribute_blocks.insert(block, xattrs.clone());
        Ok(xattrs)
    }

    fn kind(&self, inode: &Inode, number: u32, inline: Option<&[u8]>) -> Result<Kind> {
        ensure!(inode.flags & flags::ENCRYPT == 0, "it is encrypted: this is not supported");
        Ok(match inode.mode >> 12 {
            0o10 => Kind::File(self.content(inode, number, inline)?),
            0o12 => Kind::Symlink(self.target(inode, number, inline)?),
            _ => {
                kind_of(inode.mode.into(), inode::device_number(&inode.map)).with_context(|| {
                    format!("inode {number} is nothing: mode {:o}: run e2fsck", inode.mode)
                })?
            }
        })
    }

    fn content(&self, inode: &Inode, number: u32, inline: Option<&[u8]>) -> Result<Content> {
        let size = inode.size;
        let blocks = size.div_ceil(self.volume.block_size() as u64);
        ensure!(u32::try_from(blocks).is_ok(), "a file of {size} bytes: run e2fsck");
        if let Some(rest) = inline {
            let bytes = [&inode.map[..], rest].concat().into();
            return Ok(Content::Stored(Arc::new(Inline { bytes, size })));
        }
        let (volume, map) = (Arc::clone(&self.volume), Map::of(inode));
        Ok(Content::Stored(Arc::new(Contents { volume, number, map, size })))
    }

    fn target(&self, inode: &Inode, number: u32, inline: Option<&[u8]>) -> Result<Box<[u8]>> {
        let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
        ensure!((1..=self.volume.block_size()).contains(&size), "a link of {size} bytes");
        if inline.is_none() && inode.flags & flags::EXTENTS == 0 && size < MAP {
            return Ok(inode.map[..size].into());
        }
        let mut target = Vec::with_capacity(size);
        self.content(inode, number, inline)?.open()?.read_to_end(&mut target)?;
        Ok(target.into())
    }

    /// The names of a directory.
    fn names(&mut self, inode: &Inode, inline: Option<&[u8]>) -> Result<Vec<Named>> {
        /// Bytes of an inline directory's parent.
        const PARENT: usize = 4;
        let mut names = Vec::new();
        if let Some(rest) = inline {
            dirents::parse(&inode.map[PARENT..], &mut names)?;
            dirents::parse(rest, &mut names)?;
            return Ok(names);
        }
        let map = Map::of(inode);
        let blocks = inode.size / self.volume.block_size() as u64;
        for at in 0..u32::try_from(blocks).context("a directory of 2^32 blocks")? {
            let (block, _) = self.volume.find(&map, at)?;
            let block = block.context("a directory has a hole: run e2fsck")?;
            let bytes = self.volume.block(block)?;
            let is_new = self.directory_blocks.insert(block);
            ensure!(is_new, "block {block} is in two directories: run e2fsck");
            dirents::parse(&bytes, &mut names)?;
        }
        Ok(names)
    }
}
