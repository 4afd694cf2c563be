//! The image while it is written: blocks of contents go to the file, metadata
//! stays in memory, compressed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::compressor::Packed;
use super::dirents::{self, Entry, Listing, Place};
use super::inode::{Body, Fragment, Inode, kind};
use super::layout::BLOCK_PLAIN;
use super::metadata::Writer;
use super::plan::Plan;
use crate::disk::device;
use crate::tree::{Id, Kind, Node, Tree};

/// The next thing to be done with the image.
#[derive(Debug)]
pub(super) enum Step {
    /// A block of the file that ends next.
    Block(Packed),
    /// So many blocks of zeros, together of so many bytes.
    Holes(usize, u64),
    /// A whole fragment; between files.
    Fragment(Packed),
    /// A file whose blocks were written, and where its end is.
    File(Numbered, Fragment),
    /// A directory, behind all that is in it; with the number of its parent.
    Directory(Numbered, u32),
    /// What has neither contents nor names.
    Other(Numbered),
}

/// A node and the number of its inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub id: Id,
    pub number: u32,
}

/// The file whose blocks are written.
#[derive(Debug, Default)]
struct Current {
    /// Where they start, once there is one.
    start: u64,
    /// What is told of each of them, as it is stored.
    blocks: Vec<u8>,
    /// Bytes.
    holes: u64,
}

/// The image.
pub(super) struct Out<'a> {
    tree: &'a Tree,
    plan: &'a Plan<'a>,
    file: &'a File,
    /// Where the next byte goes.
    pub at: u64,
    current: Current,
    pub inode_count: u32,
    pub inodes: Writer,
    pub names: Writer,
    /// Records.
    pub fragments: Vec<u8>,
    /// Of all nodes that have an inode.
    places: Vec<Place>,
}

impl<'a> Out<'a> {
    /// Contents go to `file` from byte `at` on.
    pub(super) fn new(
        tree: &'a Tree,
        plan: &'a Plan<'a>,
        (file, at): (&'a File, u64),
        [inodes, names]: [Writer; 2],
    ) -> Self {
        Self {
            tree,
            plan,
            file,
            at,
            current: Current::default(),
            inode_count: 0,
            inodes,
            names,
            fragments: Vec::new(),
            places: vec![Place::default(); tree.len()],
        }
    }

    /// Writes at the end.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.at).context("write the image")?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Where the inode of `id` is, once it is written.
    pub(super) fn place(&self, id: Id) -> Place {
        self.places.get(id.number() as usize).copied().unwrap_or_default()
    }

    pub(super) fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Block(block) => {
                if self.current.start == 0 {
                    self.current.start = self.at;
                }
                self.current.blocks.extend(told(&block)?.to_le_bytes());
                self.append(&block.bytes)
            }
            Step::Holes(count, bytes) => {
                self.current.blocks.resize(self.current.blocks.len() + count * 4, 0);
                self.current.holes += bytes;
                Ok(())
            }
            Step::Fragment(block) => {
                self.fragments.extend(self.at.to_le_bytes());
                self.fragments.extend(told(&block)?.to_le_bytes());
                self.fragments.extend([0; 4]);
                self.append(&block.bytes)
            }
            Step::File(file, fragment) => {
                let Current { start, blocks, holes } = std::mem::take(&mut self.current);
                if let Kind::File(content) = &self.tree.node(file.id).kind {
                    let body = Body::File { start, size: content.size(), holes, fragment };
                    self.inode(file, body)?;
                }
                self.inodes.write(&blocks)
            }
            Step::Directory(directory, parent) => self.directory(directory, parent),
            Step::Other(other) => {
                let body = match &self.tree.node(other.id).kind {
                    Kind::Symlink(target) => Body::Symlink(target.clone()),
                    Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                        Body::Device(device::encode(*major, *minor)?)
                    }
                    _ => Body::Nothing,
                };
                self.inode(other, body)
            }
        }
    }

    fn directory(&mut self, directory: Numbered, parent: u32) -> Result<()> {
        let children = self.tree.children(directory.id).into_iter().flatten();
        let entries = children.map(|(name, &id)| {
            let kind = kind_of(&self.tree.node(id).kind);
            Entry { name, kind, place: self.place(id) }
        });
        let entries: Vec<_> = entries.collect();
        let listing = dirents::write(&entries, &mut self.names)?;
        let Listing { at: names, size, index } = listing;
        self.inode(directory, Body::Directory { names, size, parent, index })
    }

    fn inode(&mut self, Numbered { id, number }: Numbered, body: Body) -> Result<()> {
        let node = self.tree.node(id);
        let meta = &node.meta;
        let inode = Inode {
            kind: kind_of(&node.kind),
            permissions: meta.permissions,
            uid: self.plan.owner(meta.uid),
            gid: self.plan.owner(meta.gid),
            mtime: u32::try_from(meta.mtime.clamp(0, u32::MAX.into()))?,
            number,
            links: self.links(node)?,
            xattrs: self.plan.set(id),
            body,
        };
        if let Some(place) = self.places.get_mut(id.number() as usize) {
            *place = Place { at: self.inodes.position()?, number };
        }
        self.inode_count += 1;
        self.inodes.write(&inode.encode()?)
    }

    /// Of a directory: its `.`, its name, and the `..` of each directory in it.
    fn links(&self, node: &Node) -> Result<u32> {
        let Kind::Directory(children) = &node.kind else { return Ok(node.names) };
        let directories = children.values().filter(|&&id| self.tree.children(id).is_some());
        Ok(u32::try_from(2 + directories.count())?)
    }
}

/// The length of a block as the format keeps it.
fn told(block: &Packed) -> Result<u32> {
    let flag = if block.is_packed { 0 } else { BLOCK_PLAIN };
    Ok(u32::try_from(block.bytes.len())? | flag)
}

fn kind_of(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory(_) => kind::DIRECTORY,
        Kind::File(_) => kind::FILE,
        Kind::Symlink(_) => kind::SYMLINK,
        Kind::BlockDevice(..) => kind::BLOCK_DEVICE,
        Kind::CharDevice(..) => kind::CHAR_DEVICE,
        Kind::Fifo => kind::FIFO,
        Kind::Socket => kind::SOCKET,
    }
}
