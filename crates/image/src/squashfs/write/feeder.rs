//! Order of writing: all nodes of a tree, with the contents of files cut into blocks and
//! fragments.
//!
//! A directory comes after everything in it, because its names hold the positions of the
//! inodes. The files of a directory come before its subdirectories, so that their inodes are
//! next to each other. Memory is bounded by the queue and one fragment.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use archive::bytes::is_zero;

use super::out::{ImageStep, NumberedNode};
use crate::disk_parts::ordered::Queue;
use crate::progress::Progress;
use crate::squashfs::compressor::PackedBlock;
use crate::squashfs::layout::inode::FragmentPart;
use crate::squashfs::layout::units::NONE;
use crate::tree::holes::Input;
use crate::tree::{Content, Id, Kind, Tree, show};

/// Most blocks of a file. Their descriptions stay in memory until the file ends, and take
/// 256 MiB.
const BLOCKS_MAX: u64 = 1 << 26;

/// Block for a thread to compress.
pub(super) struct CompressJob {
    /// Bytes of the block.
    pub bytes: Vec<u8>,
    /// Step that takes the compressed block.
    pub step: fn(PackedBlock) -> ImageStep,
}

/// Queue of steps. Compressed blocks come out in the order in which they went in.
pub(super) type StepQueue<'q> = Queue<'q, CompressJob, Result<ImageStep>>;

/// Puts all nodes of a tree into the queue.
pub(super) struct TreeFeeder<'a, 'q> {
    tree: &'a Tree,
    queue: &'a mut StepQueue<'q>,
    progress: &'a Progress,
    block_size: usize,
    /// Nodes with several names that were written.
    seen: HashSet<Id>,
    /// Number of the last inode.
    last: u32,
    /// Bytes of the current fragment.
    fragment: Vec<u8>,
    /// Number of the current fragment.
    fragments: u32,
}

impl<'a, 'q> TreeFeeder<'a, 'q> {
    /// Feeder for `tree`.
    pub(super) fn new(
        tree: &'a Tree,
        queue: &'a mut StepQueue<'q>,
        progress: &'a Progress,
        block_size: usize,
    ) -> Self {
        let fragment = Vec::with_capacity(block_size);
        Self {
            tree,
            queue,
            progress,
            block_size,
            seen: HashSet::new(),
            last: 0,
            fragment,
            fragments: 0,
        }
    }

    /// Puts the whole tree into the queue, the root last.
    pub(super) fn all(&mut self) -> Result<()> {
        let root = self.number(Tree::ROOT)?;
        self.below(root, &mut Vec::new())?;
        self.end_fragment()?;
        // The root has no directory above it. The field gets a number that no inode has.
        self.queue.push(Ok(ImageStep::Directory(root, self.last.wrapping_add(1))), 0)
    }

    /// Puts everything in `directory` into the queue. `path` is the path of the directory.
    fn below(&mut self, directory: NumberedNode, path: &mut Vec<u8>) -> Result<()> {
        let tree = self.tree;
        let children = || tree.children(directory.id).into_iter().flatten();
        let length = path.len();
        for (name, &id) in children() {
            let node = tree.node(id);
            if matches!(node.kind, Kind::Directory(_)) || node.names > 1 && !self.seen.insert(id) {
                continue;
            }
            self.node(id, &node.kind).with_context(|| {
                push(path, name);
                show(path)
            })?;
        }
        for (name, &id) in children().filter(|row| tree.children(*row.1).is_some()) {
            let child = self.number(id)?;
            push(path, name);
            self.below(child, path)?;
            path.truncate(length);
            self.queue.push(Ok(ImageStep::Directory(child, directory.number)), 0)?;
        }
        Ok(())
    }

    /// Gives a node the next inode number.
    fn number(&mut self, id: Id) -> Result<NumberedNode> {
        self.last = self.last.checked_add(1).context("the tree has more than 2^32 files")?;
        Ok(NumberedNode { id, number: self.last })
    }

    /// Puts a node that is no directory into the queue.
    fn node(&mut self, id: Id, kind: &Kind) -> Result<()> {
        let node = self.number(id)?;
        self.progress.node();
        let Kind::File(content) = kind else {
            return self.queue.push(Ok(ImageStep::Other(node)), 0);
        };
        let fragment = self.contents(content)?;
        self.queue.push(Ok(ImageStep::File(node, fragment)), 0)
    }

    /// Puts the blocks of a file into the queue. Returns the place of the bytes that do not
    /// fill a block.
    fn contents(&mut self, content: &Content) -> Result<FragmentPart> {
        let (size, block) = (content.size(), self.block_size as u64);
        let whole = size / block * block;
        let tail = usize::try_from(size - whole)?;
        if size == 0 {
            return Ok(FragmentPart { number: NONE, offset: 0 });
        }
        ensure!(
            whole / block <= BLOCKS_MAX,
            "a file of {size} bytes: it has too many blocks of {block} bytes: choose \
             --cluster-size 1M or erofs"
        );
        let mut input = Input::open(content)?;
        // Bytes of the blocks of zeros that are not in the queue yet.
        let mut hole = 0;
        while input.at() < whole {
            let skipped = input.skip_blocks(block)?;
            hole += skipped;
            if skipped > 0 {
                continue;
            }
            let mut bytes = vec![0; self.block_size];
            input.read(&mut bytes)?;
            if is_zero(&bytes) {
                hole += block;
                continue;
            }
            self.holes(std::mem::take(&mut hole))?;
            self.queue.work(CompressJob { bytes, step: ImageStep::Block }, self.block_size)?;
            self.progress.add(block);
        }
        self.holes(hole)?;
        self.tail(&mut input, tail)
    }

    /// Puts blocks of zeros, together of `bytes` bytes, into the queue.
    fn holes(&mut self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.progress.add(bytes);
        let count = usize::try_from(bytes / self.block_size as u64)?;
        self.queue.push(Ok(ImageStep::Holes(count, bytes)), 0)
    }

    /// Adds the last `size` bytes of a file to the current fragment.
    fn tail(&mut self, input: &mut Input, size: usize) -> Result<FragmentPart> {
        if size == 0 {
            return Ok(FragmentPart { number: NONE, offset: 0 });
        }
        if self.fragment.len() + size > self.block_size {
            self.end_fragment()?;
        }
        let start = self.fragment.len();
        self.fragment.resize(start + size, 0);
        input.read(&mut self.fragment[start..])?;
        self.progress.add(size as u64);
        Ok(FragmentPart { number: self.fragments, offset: u32::try_from(start)? })
    }

    /// Puts the current fragment into the queue.
    fn end_fragment(&mut self) -> Result<()> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.fragment, Vec::with_capacity(self.block_size));
        let size = bytes.len();
        self.fragments =
            self.fragments.checked_add(1).context("the image has more than 2^32 fragments")?;
        self.queue.work(CompressJob { bytes, step: ImageStep::Fragment }, size)
    }
}

/// Appends `name` to `path`.
fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
