//! The image while it is written: blocks of contents, and inodes between them.

use std::collections::HashMap;

use anyhow::{Context, Result};
use archive::bytes::is_zero;

use super::cluster_map::{ClusterMap, Clusters};
use super::inode::{Inode, Layout};
use super::layout::{BLOCK, BLOCK_BYTES, HOLE, SLOT};
use super::place::{Borders, Places};
use super::segment::{Segment, plain};
use super::sparse::Chunks;
use crate::identity::Image;
use crate::tree::Id;

/// Where the inodes of directories start, in blocks: behind the superblock.
pub(super) const FIRST_BLOCK: u64 = 1;
/// Bytes of inodes that are gathered before they are written.
const STRETCH: usize = 2 << 20;

/// An inode that has its metadata, but no contents yet.
#[derive(Debug)]
pub(super) struct Head {
    pub inode: Inode,
    /// Encoded.
    pub xattrs: Vec<u8>,
}

impl Head {
    /// Bytes on disk.
    pub(super) fn len(&self, time: i64) -> usize {
        self.inode.len(time) + self.xattrs.len()
    }

    /// Where contents of its size go: the layout, and how many bytes of them
    /// follow the inode.
    pub(super) fn tail(&self, time: i64) -> (Layout, usize) {
        let tail = usize::try_from(self.inode.size % BLOCK_BYTES).unwrap_or_default();
        match tail > 0 && self.len(time) + tail <= BLOCK {
            true => (Layout::Inline, tail),
            false => (Layout::Plain, 0),
        }
    }

    pub(super) fn encode(&self, time: i64) -> Vec<u8> {
        let mut bytes = self.inode.encode(time);
        bytes.extend_from_slice(&self.xattrs);
        bytes
    }
}

/// How a file ends, once its segments are written.
#[derive(Debug)]
pub(super) enum End {
    /// Its contents are what its segments are.
    Contents,
    /// Its segments are the chunks with data.
    Sparse(Chunks),
    /// It has none: a device and its number, or 0.
    Device(u32),
}

/// Whether segments of a file may be compressed, so that it needs a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    No,
    Yes,
}

/// The file whose segments are written.
#[derive(Debug, Default)]
struct Current {
    first_block: u64,
    /// The map of its extents, should any be compressed.
    map: Option<ClusterMap>,
    is_packed: bool,
    /// What does not fill the last block, not written yet.
    tail: Vec<u8>,
}

/// The image.
#[derive(Debug)]
pub(super) struct Out<'a> {
    image: &'a Image<'a>,
    time: i64,
    clusters: Clusters,
    /// The first block that is free.
    next: u64,
    current: Option<Current>,
    /// Inodes that are not written yet.
    places: Places,
    stretch: Vec<u8>,
    /// First blocks of all stretches.
    stretches: Vec<u64>,
    /// In which stretch an inode is, and where there.
    inodes: HashMap<Id, (u32, u32)>,
    /// Whether there is a sparse file.
    pub has_chunks: bool,
    /// Whether there is a compressed one.
    pub has_packed: bool,
}

impl<'a> Out<'a> {
    /// An image with nothing but the inodes of directories, which are at
    /// `directories`, and free from block `next` on.
    pub(super) fn new(
        image: &'a Image<'a>,
        time: i64,
        clusters: Clusters,
        directories: impl Iterator<Item = (Id, usize)>,
        next: u64,
    ) -> Result<Self> {
        let inodes = directories.map(|(id, place)| Ok((id, (0, u32::try_from(place)?))));
        Ok(Self {
            image,
            time,
            clusters,
            next,
            current: None,
            places: Places::default(),
            stretch: Vec::new(),
            stretches: vec![FIRST_BLOCK],
            inodes: inodes.collect::<Result<_>>().context("too many directories")?,
            has_chunks: false,
            has_packed: false,
        })
    }

    /// Number of inodes.
    pub(super) fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The first block that is free.
    pub(super) fn next_block(&self) -> u64 {
        self.next
    }

    /// The number that names use for the inode of `id`.
    pub(super) fn nid(&self, id: Id) -> u64 {
        let (stretch, place) = self.inodes.get(&id).copied().unwrap_or_default();
        let start = self.stretches.get(stretch as usize).copied().unwrap_or_default();
        (start * BLOCK_BYTES + u64::from(place)) / SLOT as u64
    }

    /// Writes anywhere.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.image.write_at(bytes, at).context("write the image")
    }

    /// Writes the next segment of a file: whole blocks, but for its last one.
    pub(super) fn segment(&mut self, segment: Segment, mapped: Mapped) -> Result<()> {
        let mut current = self.current.take().unwrap_or_else(|| Current {
            first_block: self.next,
            map: (mapped == Mapped::Yes).then(|| ClusterMap::new(self.clusters)),
            ..Current::default()
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

    /// Writes whole blocks; those that are zero stay a hole of the image.
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if !is_zero(bytes) {
            self.write_at(bytes, self.next * BLOCK_BYTES)?;
        }
        self.next += bytes.len().div_ceil(BLOCK) as u64;
        Ok(())
    }

    /// Ends the file whose segments were written, and places its inode.
    pub(super) fn end(&mut self, id: Id, mut head: Head, end: End) -> Result<()> {
        let Current { first_block, map, is_packed, tail } = self.current.take().unwrap_or_default();
        let (mut behind, mut borders) = (Vec::new(), Borders::Cross);
        let inode = &mut head.inode;
        match end {
            End::Device(device) => inode.union = device,
            End::Contents if is_packed => {
                self.append(&tail)?;
                inode.layout = Layout::Full;
                inode.union = address(self.next - first_block)?;
                let start = head.len(self.time);
                behind.resize(start.next_multiple_of(8) - start, 0);
                behind.extend(map.map(ClusterMap::finish).unwrap_or_default());
                self.has_packed = true;
            }
            End::Contents => {
                inode.union = address(first_block)?;
                let (layout, inline) = head.tail(self.time);
                head.inode.layout = layout;
                if inline > 0 {
                    (behind, borders) = (tail, Borders::Avoid);
                } else {
                    self.append(&tail)?;
                }
            }
            End::Sparse(chunks) => {
                self.append(&tail)?;
                inode.layout = Layout::Chunks;
                inode.union = chunks.bits.into();
                behind = chunk_table(&chunks, first_block)?;
                self.has_chunks = true;
            }
        }
        let mut bytes = head.encode(self.time);
        bytes.append(&mut behind);
        self.place(id, &bytes, borders)
    }

    fn place(&mut self, id: Id, bytes: &[u8], borders: Borders) -> Result<()> {
        let place = self.places.take(bytes.len(), borders);
        self.stretch.resize(self.places.len(), 0);
        self.stretch[place..place + bytes.len()].copy_from_slice(bytes);
        let stretch = u32::try_from(self.stretches.len())?;
        self.inodes.insert(id, (stretch, u32::try_from(place)?));
        if self.stretch.len() >= STRETCH { self.flush() } else { Ok(()) }
    }

    /// Writes the inodes that were gathered.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.stretches.push(self.next);
        let stretch = std::mem::take(&mut self.stretch);
        self.places = Places::default();
        self.append(&stretch)
    }
}

/// The address of each chunk: those with data follow each other.
fn chunk_table(chunks: &Chunks, first_block: u64) -> Result<Vec<u8>> {
    let mut block = first_block;
    let mut table = Vec::with_capacity(chunks.data.len() * 4);
    for &has_data in &chunks.data {
        let entry = if has_data { address(block)? } else { HOLE };
        table.extend(entry.to_le_bytes());
        if has_data {
            block += 1 << chunks.bits;
        }
    }
    Ok(table)
}

/// A number of blocks as the format keeps it.
pub(super) fn address(block: u64) -> Result<u32> {
    u32::try_from(block).ok().filter(|&block| block != HOLE).context("an image ends at 16 TiB")
}
