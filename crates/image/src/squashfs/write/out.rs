//! Image that is being written: blocks of contents go to the file, and metadata stays in
//! memory, compressed.
//!
//! Format: see `layout`. Steps come in the order that `feeder` describes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::dirents::{self, RunEntry, WrittenInode, WrittenNames};
use super::metadata::MetadataWriter;
use super::plan::SquashfsPlan;
use crate::disk_parts::device;
use crate::squashfs::compressor::PackedBlock;
use crate::squashfs::layout::inode::{FragmentPart, InodeBody, SquashfsInode, kind};
use crate::squashfs::layout::units::BLOCK_PLAIN;
use crate::tree::{Id, Kind, Node, Tree};

/// Next thing to write to the image.
#[derive(Debug)]
pub(super) enum ImageStep {
    /// Block of the current file.
    Block(PackedBlock),
    /// Blocks of zeros of the current file: their number, and their bytes.
    Holes(usize, u64),
    /// Complete fragment. It comes between files.
    Fragment(PackedBlock),
    /// End of the current file, with the place of its last bytes.
    File(NumberedNode, FragmentPart),
    /// Directory, with the inode number of the directory above. It comes after everything
    /// in it.
    Directory(NumberedNode, u32),
    /// Node that has neither contents nor names.
    Other(NumberedNode),
}

/// Node with the number of its inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberedNode {
    /// The node.
    pub id: Id,
    /// Number of its inode.
    pub number: u32,
}

/// Blocks of the file that is being written.
#[derive(Debug, Default)]
struct CurrentBlocks {
    /// Address of the first block, or 0 if no block was written yet.
    start: u64,
    /// Encoded description of each block.
    blocks: Vec<u8>,
    /// Bytes of the blocks of zeros.
    holes: u64,
}

/// Image that is being written.
pub(super) struct ImageOutput<'a> {
    tree: &'a Tree,
    plan: &'a SquashfsPlan<'a>,
    file: &'a File,
    /// Address of the next byte.
    pub at: u64,
    current: CurrentBlocks,
    /// Number of inodes that were written.
    pub inode_count: u32,
    /// Table of inodes.
    pub inodes: MetadataWriter,
    /// Table of names.
    pub names: MetadataWriter,
    /// Encoded records of the fragments.
    pub fragments: Vec<u8>,
    /// Inode of each node, indexed by the number of the node.
    written: Vec<WrittenInode>,
}

impl<'a> ImageOutput<'a> {
    /// Empty image. Contents go to `file` from byte `at` on.
    pub(super) fn new(
        tree: &'a Tree,
        plan: &'a SquashfsPlan<'a>,
        (file, at): (&'a File, u64),
        [inodes, names]: [MetadataWriter; 2],
    ) -> Self {
        Self {
            tree,
            plan,
            file,
            at,
            current: CurrentBlocks::default(),
            inode_count: 0,
            inodes,
            names,
            fragments: Vec::new(),
            written: vec![WrittenInode::default(); tree.len()],
        }
    }

    /// Writes `bytes` at the end of the file.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.at).context("write the image")?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Position and number of the inode of `id`, which must be written already.
    pub(super) fn written(&self, id: Id) -> WrittenInode {
        self.written.get(id.number() as usize).copied().unwrap_or_default()
    }

    /// Carries out a step.
    pub(super) fn take(&mut self, step: ImageStep) -> Result<()> {
        match step {
            ImageStep::Block(block) => {
                if self.current.start == 0 {
                    self.current.start = self.at;
                }
                self.current.blocks.extend(description(&block)?.to_le_bytes());
                self.append(&block.bytes)
            }
            ImageStep::Holes(count, bytes) => {
                self.current.blocks.resize(self.current.blocks.len() + count * 4, 0);
                self.current.holes += bytes;
                Ok(())
            }
            ImageStep::Fragment(block) => {
                self.fragments.extend(self.at.to_le_bytes());
                self.fragments.extend(description(&block)?.to_le_bytes());
                self.fragments.extend([0; 4]);
                self.append(&block.bytes)
            }
            ImageStep::File(file, fragment) => {
                let CurrentBlocks { start, blocks, holes } = std::mem::take(&mut self.current);
                if let Kind::File(content) = &self.tree.node(file.id).kind {
                    let body = InodeBody::File { start, size: content.size(), holes, fragment };
                    self.inode(file, body)?;
                }
                self.inodes.write(&blocks)
            }
            ImageStep::Directory(directory, parent) => self.directory(directory, parent),
            ImageStep::Other(other) => {
                let body = match &self.tree.node(other.id).kind {
                    Kind::Symlink(target) => InodeBody::Symlink(target.clone()),
                    Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                        InodeBody::Device(device::encode(*major, *minor)?)
                    }
                    _ => InodeBody::Nothing,
                };
                self.inode(other, body)
            }
        }
    }

    /// Writes the names and the inode of a directory.
    fn directory(&mut self, directory: NumberedNode, parent: u32) -> Result<()> {
        let children = self.tree.children(directory.id).into_iter().flatten();
        let entries = children.map(|(name, &id)| {
            let kind = kind_of(&self.tree.node(id).kind);
            RunEntry { name, kind, inode: self.written(id) }
        });
        let entries: Vec<_> = entries.collect();
        let WrittenNames { at: names, size, index } = dirents::write(&entries, &mut self.names)?;
        self.inode(directory, InodeBody::Directory { names, size, parent, index })
    }

    /// Writes the inode of a node.
    fn inode(&mut self, NumberedNode { id, number }: NumberedNode, body: InodeBody) -> Result<()> {
        let node = self.tree.node(id);
        let meta = &node.meta;
        let inode = SquashfsInode {
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
        if let Some(written) = self.written.get_mut(id.number() as usize) {
            *written = WrittenInode { at: self.inodes.position()?, number };
        }
        self.inode_count += 1;
        self.inodes.write(&inode.encode()?)
    }

    /// Number of hard links of a node. A directory has its name, its `.`, and the `..` of each
    /// of its subdirectories.
    fn links(&self, node: &Node) -> Result<u32> {
        let Kind::Directory(children) = &node.kind else { return Ok(node.names) };
        let directories = children.values().filter(|&&id| self.tree.children(id).is_some());
        Ok(u32::try_from(2 + directories.count())?)
    }
}

/// Description of a block: its stored length, and whether it is compressed.
fn description(block: &PackedBlock) -> Result<u32> {
    let flag = if block.is_packed { 0 } else { BLOCK_PLAIN };
    Ok(u32::try_from(block.bytes.len())? | flag)
}

/// Basic type of the inode for a node.
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
