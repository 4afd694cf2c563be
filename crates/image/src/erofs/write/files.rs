//! Files and all other nodes but directories: they are read in the order of their names,
//! compressed by several threads, and written in the same order.
//!
//! Memory is bounded: the queue holds two segments more than there are threads.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::head::InodeHead;
use super::out::{ImageWriter, MapNeed, NodeEnd};
use super::segment::{SEGMENT, Segment, compress};
use super::sparse;
use crate::disk_parts::device;
use crate::disk_parts::ordered::{self, Queue};
use crate::erofs::layout::units::BLOCK_BYTES;
use crate::erofs::lz4::{Chains, Newest};
use crate::erofs::options::{ErofsCompression, ErofsOptions};
use crate::progress::Progress;
use crate::tree::{Content, Id, Kind, Node, Tree, show};

/// Most threads that compress. Each has two segments in memory.
const THREADS_MAX: usize = 8;
/// Largest file that is compressed, in bytes. The map of a compressed file stays in memory
/// and takes 8 bytes for each block.
const COMPRESSED_MAX: u64 = 4 << 30;

/// Next thing to write to the image.
enum WriteStep {
    /// A segment of the current file.
    Segment(Segment, MapNeed),
    /// The inode of a node whose segments are complete.
    End(Id, Box<InodeHead>, NodeEnd),
}

/// Writes all nodes of `tree` but the directories.
///
/// # Errors
/// EROFS cannot hold a node, or a file cannot be read. The error names the path.
pub(super) fn write(
    tree: &Tree,
    options: &ErofsOptions,
    out: &mut ImageWriter,
    progress: &Progress,
) -> Result<()> {
    let threads = options.threads.clamp(1, THREADS_MAX);
    let cluster = options.cluster_size as usize;
    let compress = |bytes: Vec<u8>| {
        let segment = match options.compression {
            ErofsCompression::Lz4hc(level) => {
                compress(&mut Chains::new(level, bytes.len()), bytes, cluster)
            }
            ErofsCompression::Lz4 | ErofsCompression::None => {
                compress(&mut Newest::new(), bytes, cluster)
            }
        };
        WriteStep::Segment(segment, MapNeed::Yes)
    };
    let mut take = |step| match step {
        WriteStep::Segment(segment, mapped) => out.segment(segment, mapped),
        WriteStep::End(id, head, end) => out.end(id, *head, end),
    };
    let held_max = (threads + 2) * SEGMENT;
    ordered::run(
        threads,
        held_max,
        || compress,
        &mut take,
        |queue| {
            let mut feeder = FileFeeder { queue, compression: options.compression, progress };
            let mut seen = HashSet::new();
            tree.walk(&mut |path, id| {
                let node = tree.node(id);
                let is_done =
                    matches!(node.kind, Kind::Directory(_)) || node.names > 1 && !seen.insert(id);
                if is_done { Ok(()) } else { feeder.node(id, node).with_context(|| show(path)) }
            })
        },
    )
}

/// Reads nodes and puts them into the queue.
struct FileFeeder<'a, 'q> {
    queue: &'a mut Queue<'q, Vec<u8>, WriteStep>,
    compression: ErofsCompression,
    progress: &'a Progress,
}

impl FileFeeder<'_, '_> {
    /// Puts a node into the queue: first its segments, then its end.
    fn node(&mut self, id: Id, node: &Node) -> Result<()> {
        self.progress.node();
        let mut end = NodeEnd::Contents;
        let mut head = InodeHead::new(node)?;
        match &node.kind {
            Kind::File(content) => {
                head.inode.size = content.size();
                end = self.contents(content)?;
            }
            Kind::Symlink(target) => {
                head.inode.size = target.len() as u64;
                self.queue.push(raw(target.to_vec()), target.len())?;
            }
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                end = NodeEnd::Device(device::encode(*major, *minor)?);
            }
            Kind::Directory(_) | Kind::Fifo | Kind::Socket => end = NodeEnd::Device(0),
        }
        self.queue.push(WriteStep::End(id, Box::new(head), end), 0)
    }

    /// Puts the contents of a file into the queue.
    fn contents(&mut self, content: &Content) -> Result<NodeEnd> {
        let is_large = content.size() > COMPRESSED_MAX;
        if is_large || sparse::is_sparse(content)? {
            let mut written = 0;
            let chunks = sparse::write(content, &mut |bytes| {
                let length = bytes.len();
                written += length as u64;
                self.progress.add(length as u64);
                self.queue.push(raw(bytes), length)
            })?;
            self.progress.add(content.size().saturating_sub(written));
            // Without holes the blocks are consecutive, so the file needs no chunk table.
            return Ok(match chunks.are_full() {
                true => NodeEnd::Contents,
                false => NodeEnd::Sparse(chunks),
            });
        }
        let is_compressed =
            self.compression != ErofsCompression::None && content.size() > BLOCK_BYTES;
        let mut left = content.size();
        let mut reader = content.open()?;
        while left > 0 {
            let mut bytes = vec![0; usize::try_from(left.min(SEGMENT as u64))?];
            reader.read_exact(&mut bytes).context("read")?;
            let length = bytes.len();
            left -= length as u64;
            self.progress.add(length as u64);
            match is_compressed {
                true => self.queue.work(bytes, length)?,
                false => self.queue.push(raw(bytes), length)?,
            }
        }
        Ok(NodeEnd::Contents)
    }
}

/// Step for bytes that are stored unchanged.
fn raw(bytes: Vec<u8>) -> WriteStep {
    WriteStep::Segment(Segment::Raw(bytes), MapNeed::No)
}
