//! All nodes of a tree, in the order in which they are written, and the contents
//! of files cut into blocks and fragments.
//!
//! A directory comes behind all that is in it, for its names tell where inodes
//! are; in it files come before directories, so that their inodes are neighbours.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use archive::bytes::is_zero;

use super::compressor::Packed;
use super::inode::Fragment;
use super::layout::NONE;
use super::out::{Numbered, Step};
use crate::disk::ordered::Queue;
use crate::progress::Progress;
use crate::tree::holes::Input;
use crate::tree::{Content, Id, Kind, Tree, show};

/// Most blocks of a file: a list of 256 MiB, which is in memory until it ends.
const BLOCKS_MAX: u64 = 1 << 26;

/// What a thread compresses, and what it is then.
pub(super) struct Job {
    pub bytes: Vec<u8>,
    pub step: fn(Packed) -> Step,
}

/// What threads give.
pub(super) type Steps<'q> = Queue<'q, Job, Result<Step>>;

pub(super) struct Files<'a, 'q> {
    tree: &'a Tree,
    queue: &'a mut Steps<'q>,
    progress: &'a Progress,
    block_size: usize,
    /// Nodes that have other names.
    seen: HashSet<Id>,
    /// The number of the last inode.
    last: u32,
    /// What is gathered for the next fragment.
    fragment: Vec<u8>,
    /// Its number.
    fragments: u32,
}

impl<'a, 'q> Files<'a, 'q> {
    pub(super) fn new(
        tree: &'a Tree,
        queue: &'a mut Steps<'q>,
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

    /// Gives all of the tree to the queue.
    pub(super) fn all(&mut self) -> Result<()> {
        let root = self.number(Tree::ROOT)?;
        self.below(root, &mut Vec::new())?;
        self.end_fragment()?;
        // The root is in nothing: a number that no inode has.
        self.queue.push(Ok(Step::Directory(root, self.last.wrapping_add(1))), 0)
    }

    /// What is in `directory`, whose path `path` is.
    fn below(&mut self, directory: Numbered, path: &mut Vec<u8>) -> Result<()> {
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
            self.queue.push(Ok(Step::Directory(child, directory.number)), 0)?;
        }
        Ok(())
    }

    fn number(&mut self, id: Id) -> Result<Numbered> {
        self.last = self.last.checked_add(1).context("more than 2^32 files")?;
        Ok(Numbered { id, number: self.last })
    }

    fn node(&mut self, id: Id, kind: &Kind) -> Result<()> {
        let node = self.number(id)?;
        self.progress.node();
        let Kind::File(content) = kind else { return self.queue.push(Ok(Step::Other(node)), 0) };
        let fragment = self.contents(content)?;
        self.queue.push(Ok(Step::File(node, fragment)), 0)
    }

    /// Cuts contents into blocks; tells where what is left of them will be.
    fn contents(&mut self, content: &Content) -> Result<Fragment> {
        let (size, block) = (content.size(), self.block_size as u64);
        let whole = size / block * block;
        let tail = usize::try_from(size - whole)?;
        if size == 0 {
            return Ok(Fragment { number: NONE, offset: 0 });
        }
        ensure!(
            whole / block <= BLOCKS_MAX,
            "a file of {size} bytes: squashfs keeps a length for each block of {block}: choose \
             --cluster-size 1M or erofs"
        );
        let mut input = Input::open(content)?;
        // Blocks of zeros that are not told yet.
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
            self.queue.work(Job { bytes, step: Step::Block }, self.block_size)?;
            self.progress.add(block);
        }
        self.holes(hole)?;
        self.tail(&mut input, tail)
    }

    /// Blocks of zeros.
    fn holes(&mut self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.progress.add(bytes);
        let count = usize::try_from(bytes / self.block_size as u64)?;
        self.queue.push(Ok(Step::Holes(count, bytes)), 0)
    }

    /// What does not fill a block goes into a fragment.
    fn tail(&mut self, input: &mut Input, size: usize) -> Result<Fragment> {
        if size == 0 {
            return Ok(Fragment { number: NONE, offset: 0 });
        }
        if self.fragment.len() + size > self.block_size {
            self.end_fragment()?;
        }
        let start = self.fragment.len();
        self.fragment.resize(start + size, 0);
        input.read(&mut self.fragment[start..])?;
        self.progress.add(size as u64);
        Ok(Fragment { number: self.fragments, offset: u32::try_from(start)? })
    }

    fn end_fragment(&mut self) -> Result<()> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.fragment, Vec::with_capacity(self.block_size));
        let size = bytes.len();
        self.fragments = self.fragments.checked_add(1).context("too many fragments")?;
        self.queue.work(Job { bytes, step: Step::Fragment }, size)
    }
}

/// Appends a name to a path.
fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
