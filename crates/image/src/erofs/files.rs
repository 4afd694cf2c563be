//! Everything but directories, read in the order of names and compressed by
//! threads on the way to the image.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::layout::BLOCK_BYTES;
use super::matches::{Chains, Newest};
use super::out::{End, Head, Mapped, Out};
use super::segment::{SEGMENT, Segment, compress};
use super::sparse;
use super::write::head;
use super::{Compression, Options};
use crate::device;
use crate::ordered::{self, Queue};
use crate::progress::Progress;
use crate::tree::{Content, Id, Kind, Node, Tree, show};

/// Most threads that compress: each has two segments in memory.
const THREADS_MAX: usize = 8;
/// Larger files are not compressed: their map is kept in memory, 8 bytes for
/// each block.
const COMPRESSED_MAX: u64 = 4 << 30;

/// What is to be done next with the image.
enum Step {
    Segment(Segment, Mapped),
    End(Id, Box<Head>, End),
}

/// Writes all nodes that are no directories.
pub(super) fn write(
    tree: &Tree,
    options: &Options,
    out: &mut Out,
    progress: &Progress,
) -> Result<()> {
    let threads = options.threads.clamp(1, THREADS_MAX);
    let cluster = options.cluster_size as usize;
    let compress = |bytes: Vec<u8>| {
        let segment = match options.compression {
            Compression::Lz4hc(level) => {
                compress(&mut Chains::new(level, bytes.len()), bytes, cluster)
            }
            Compression::Lz4 | Compression::None => compress(&mut Newest::new(), bytes, cluster),
        };
        Step::Segment(segment, Mapped::Yes)
    };
    let mut take = |step| match step {
        Step::Segment(segment, mapped) => out.segment(segment, mapped),
        Step::End(id, head, end) => out.end(id, *head, end),
    };
    let held_max = (threads + 2) * SEGMENT;
    ordered::run(
        threads,
        held_max,
        || compress,
        &mut take,
        |queue| {
            let mut files = Files { queue, compression: options.compression, progress };
            let mut seen = HashSet::new();
            tree.walk(&mut |path, id| {
                let node = tree.node(id);
                let is_done =
                    matches!(node.kind, Kind::Directory(_)) || node.names > 1 && !seen.insert(id);
                if is_done { Ok(()) } else { files.node(id, node).with_context(|| show(path)) }
            })
        },
    )
}

struct Files<'a, 'q> {
    queue: &'a mut Queue<'q, Vec<u8>, Step>,
    compression: Compression,
    progress: &'a Progress,
}

impl Files<'_, '_> {
    fn node(&mut self, id: Id, node: &Node) -> Result<()> {
        self.progress.node();
        let mut end = End::Contents;
        let mut head = head(node)?;
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
                end = End::Device(device::encode(*major, *minor)?);
            }
            Kind::Directory(_) | Kind::Fifo | Kind::Socket => end = End::Device(0),
        }
        self.queue.push(Step::End(id, Box::new(head), end), 0)
    }

    fn contents(&mut self, content: &Content) -> Result<End> {
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
            // Without holes its blocks follow each other as those of any file.
            return Ok(if chunks.are_full() { End::Contents } else { End::Sparse(chunks) });
        }
        let is_compressed = self.compression != Compression::None && content.size() > BLOCK_BYTES;
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
        Ok(End::Contents)
    }
}

fn raw(bytes: Vec<u8>) -> Step {
    Step::Segment(Segment::Raw(bytes), Mapped::No)
}
