//! Image that is being written: blocks of contents, with stretches of inodes between them.
//!
//! Format: see `layout`. Blocks of zeros are not written, so they are holes of the image
//! file. Inodes are gathered in memory until a stretch of them is full.

use std::collections::HashMap;

use anyhow::{Context, Result};
use archive::bytes::is_zero;

use super::cluster_map::{ClusterMap, ClusterSize};
use super::gaps::{Boundary, InodeArea};
use super::head::InodeHead;
use super::segment::{Segment, plain};
use super::sparse::Chunks;
use crate::disk_parts::identity::Image;
use crate::erofs::layout::inode::DataLayout;
use crate::erofs::layout::units::{BLOCK, BLOCK_BYTES, NULL_ADDRESS, SLOT};
use crate::tree::Id;

/// Block where the inodes of directories start. The superblock is in the block before.
pub(super) const FIRST_BLOCK: u64 = 1;
/// Bytes of inodes after which a stretch is written.
const STRETCH: usize = 2 << 20;

/// Meaning of the segments of a node, known once they are all written.
#[derive(Debug)]
pub(super) enum NodeEnd {
    /// The segments are the whole contents.
    Contents,
    /// The segments are the chunks that have data.
    Sparse(Chunks),
    /// The node has no contents. The number is that of a device (`rdev`), otherwise 0.
    Device(u32),
}

/// Whether a file may need a cluster map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapNeed {
    /// No segment of the file is compressed.
    No,
    /// Some segments of the file may be compressed.
    Yes,
}

/// File whose segments are being written.
#[derive(Debug, Default)]
struct CurrentFile {
    first_block: u64,
    /// Map of its extents, if segments may be compressed.
    map: Option<ClusterMap>,
    /// Whether a segment was compressed.
    is_packed: bool,
    /// Bytes at the end that do not fill a block and are not written yet.
    tail: Vec<u8>,
}

/// Image that is being written.
#[derive(Debug)]
pub(super) struct ImageWriter<'a> {
    image: &'a Image<'a>,
    time: i64,
    clusters: ClusterSize,
    /// First free block.
    next: u64,
    current: Option<CurrentFile>,
    /// Layout of the stretch of inodes that is not written yet.
    area: InodeArea,
    /// Bytes of the stretch of inodes that is not written yet.
    stretch: Vec<u8>,
    /// First block of each stretch.
    stretches: Vec<u64>,
    /// For each node, the number of its stretch and the position in the stretch.
    inodes: HashMap<Id, (u32, u32)>,
    /// Whether the image has a sparse file.
    pub has_chunks: bool,
    /// Whether the image has a compressed file.
    pub has_packed: bool,
}

impl<'a> ImageWriter<'a> {
    /// Image with nothing but its directories. `directories` has the positions of their
    /// inodes, and `next` is the first free block.
    pub(super) fn new(
        image: &'a Image<'a>,
        time: i64,
        clusters: ClusterSize,
        directories: impl Iterator<Item = (Id, usize)>,
        next: u64,
    ) -> Result<Self> {
        let inodes = directories.map(|(id, position)| Ok((id, (0, u32::try_from(position)?))));
        Ok(Self {
            image,
            time,
            clusters,
            next,
            current: None,
            area: InodeArea::default(),
            stretch: Vec::new(),
            stretches: vec![FIRST_BLOCK],
            inodes: inodes.collect::<Result<_>>().context("too many directories")?,
            has_chunks: false,
            has_packed: false,
        })
    }

    /// Number of inodes in the image.
    pub(super) fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// First free block.
    pub(super) fn next_block(&self) -> u64 {
        self.next
    }

    /// Number of the inode of `id` (nid).
    pub(super) fn nid(&self, id: Id) -> u64 {
        let (stretch, position) = self.inodes.get(&id).copied().unwrap_or_default();
        let start = self.stretches.get(stretch as usize).copied().unwrap_or_default();
        (start * BLOCK_BYTES + u64::from(position)) / SLOT as u64
    }

    /// Writes `bytes` at byte `at` of the image.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.image.write_at(bytes, at).context("write the image")
    }

    /// Writes the next segment of the current file. Each segment but the last has whole
    /// blocks.
    pub(super) fn segment(&mut self, segment: Segment, need: MapNeed) -> Result<()> {
        let mut current = self.current.take().unwrap_or_else(|| CurrentFile {
            first_block: self.next,
            map: (need == MapNeed::Yes).then(|| ClusterMap::new(self.clusters)),
            ..CurrentFile::default()
        });
        let (mut bytes, extents) = match segment {
            Segment::Packed(bytes, extents) => {
                current.is_packed = true;
                (bytes, extents)
            }
            Segment::Raw(bytes) => {
                let extents = current.map.as_ref().map(|_| plain(bytes.len()));
                (bytes, extents.unwrap_or_default())
            }
        };
        if let Some(map) = &mut current.map {
            let mut block = self.next;
            for extent in extents {
                map.push(extent, address(block)?);
                block += u64::from(extent.blocks);
            }
        }
        current.tail = bytes.split_off(bytes.len() / BLOCK * BLOCK);
        self.append(&bytes)?;
        self.current = Some(current);
        Ok(())
    }

    /// Writes whole blocks at the end. If all are zero they stay a hole of the image file.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if !is_zero(bytes) {
            self.write_at(bytes, self.next * BLOCK_BYTES)?;
        }
        self.next += bytes.len().div_ceil(BLOCK) as u64;
        Ok(())
    }

    /// Completes the node whose segments were written, and adds its inode.
    pub(super) fn end(&mut self, id: Id, mut head: InodeHead, end: NodeEnd) -> Result<()> {
        let CurrentFile { first_block, map, is_packed, tail } =
            self.current.take().unwrap_or_default();
        let (mut behind, mut boundary) = (Vec::new(), Boundary::Cross);
        let inode = &mut head.inode;
        match end {
            NodeEnd::Device(device) => inode.union = device,
            NodeEnd::Contents if is_packed => {
                self.append(&tail)?;
                inode.layout = DataLayout::CompressedFull;
                inode.union = address(self.next - first_block)?;
                let start = head.len(self.time);
                behind.resize(start.next_multiple_of(8) - start, 0);
                behind.extend(map.map(ClusterMap::finish).unwrap_or_default());
                self.has_packed = true;
            }
            NodeEnd::Contents => {
                inode.union = address(first_block)?;
                let (layout, inline) = head.tail(self.time);
                head.inode.layout = layout;
                if inline > 0 {
                    (behind, boundary) = (tail, Boundary::Avoid);
                } else {
                    self.append(&tail)?;
                }
            }
            NodeEnd::Sparse(chunks) => {
                self.append(&tail)?;
                inode.layout = DataLayout::ChunkBased;
                inode.union = chunks.bits.into();
                behind = chunk_table(&chunks, first_block)?;
                self.has_chunks = true;
            }
        }
        let mut bytes = head.encode(self.time);
        bytes.append(&mut behind);
        self.add_inode(id, &bytes, boundary)
    }

    /// Adds an inode, and the bytes that follow it, to the current stretch.
    fn add_inode(&mut self, id: Id, bytes: &[u8], boundary: Boundary) -> Result<()> {
        let position = self.area.take(bytes.len(), boundary);
        self.stretch.resize(self.area.len(), 0);
        self.stretch[position..position + bytes.len()].copy_from_slice(bytes);
        let stretch = u32::try_from(self.stretches.len())?;
        self.inodes.insert(id, (stretch, u32::try_from(position)?));
        if self.stretch.len() >= STRETCH { self.flush() } else { Ok(()) }
    }

    /// Writes the current stretch of inodes and starts a new one.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.stretches.push(self.next);
        let stretch = std::mem::take(&mut self.stretch);
        self.area = InodeArea::default();
        self.append(&stretch)
    }
}

/// Table with the address of each chunk. Chunks with data are consecutive in the image.
fn chunk_table(chunks: &Chunks, first_block: u64) -> Result<Vec<u8>> {
    let mut block = first_block;
    let mut table = Vec::with_capacity(chunks.data.len() * 4);
    for &has_data in &chunks.data {
        let entry = if has_data { address(block)? } else { NULL_ADDRESS };
        table.extend(entry.to_le_bytes());
        if has_data {
            block += 1 << chunks.bits;
        }
    }
    Ok(table)
}

/// Block address, or number of blocks, as 32 bits.
///
/// # Errors
/// The number has more bits: the image would be larger than 16 TiB.
pub(super) fn address(block: u64) -> Result<u32> {
    u32::try_from(block)
        .ok()
        .filter(|&block| block != NULL_ADDRESS)
        .context("an EROFS image has at most 16 TiB")
}
