//! Compressed contents of files in an image, extent by extent.
//!
//! Format: see the cluster map in [`super::layout`]. The compact kind packs 2
//! entries into 8 bytes or 16 into 32: 16 or 14 bits each, the upper two of them
//! the type, the lower 12 an offset or a distance; the pack ends with the block
//! (u32) before that of its first extent. Packs of 8 bytes lead to a multiple of
//! 32 bytes, those of 32 follow where the map says so, the rest has 8 again.

use std::io::{self, Read};

use anyhow::{Context, Result, ensure};

use super::extents::Contents;
use super::inode::Layout;
use super::layout::{
    BLOCK, BLOCK_BYTES, BLOCK_COUNT, ENTRY, MAP_HEADER, advice, incompatible, lcluster, u16_at,
    u32_at,
};
use super::unlz4;
use crate::pieces::in_io;
use crate::tree::Reader;

/// Most bytes of a file in one extent (`Z_EROFS_PCLUSTER_MAX_DSIZE`).
const EXTENT_MAX: u64 = 12 << 20;
/// Most blocks of one extent (`Z_EROFS_PCLUSTER_MAX_SIZE`).
const CLUSTER_BLOCKS_MAX: u64 = 256;
/// Compressors by number.
const COMPRESSORS: &[&str] = &["lz4", "lzma", "deflate", "zstd"];
/// Bytes of a map that are read at once.
const WINDOW: u64 = 4096;

/// A file that is decompressed from its start.
pub(super) struct Unpacker<'a> {
    contents: &'a Contents,
    advice: u16,
    /// Numbers of the compressors of both kinds of extents.
    compressors: [u8; 2],
    /// Bytes behind the map, of the last extent.
    tail_size: u16,
    /// Where the entries start.
    entries: u64,
    /// A part of the map, and where it starts.
    window: (u64, Vec<u8>),
    /// Bytes that were unpacked.
    done: u64,
    /// The block of the file in which the next extent starts.
    next: u64,
    extent: Vec<u8>,
    /// Bytes of it that were read.
    used: usize,
}

/// What the map says of a block of the file.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    kind: u16,
    /// Where in the block an extent starts, or what the first field holds inside.
    low: u16,
    block: u32,
}

/// Where a pack of the compact kind is.
struct Pack {
    at: u64,
    /// Bytes of an entry.
    unit: usize,
    /// Number of entries.
    count: usize,
    /// Which of them was asked for.
    index: usize,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(contents: &'a Contents) -> Result<Self> {
        let map = contents.behind.next_multiple_of(8);
        let mut header = [0; 8];
        contents.image.read(map, &mut header)?;
        let (advice, compressors, bits) = (u16_at(&header, 4), header[6], header[7]);
        ensure!(bits == 0, "not supported: fragments, or blocks of other than 4 KiB");
        let unknown = advice & !advice::KNOWN;
        ensure!(unknown == 0, "not supported: a compressed file with advice {unknown:#x}");
        let skipped = if contents.inode.layout == Layout::Full { MAP_HEADER } else { 8 };
        Ok(Self {
            contents,
            advice,
            compressors: [compressors & 15, compressors >> 4],
            tail_size: if advice & advice::TAIL == 0 { 0 } else { u16_at(&header, 2) },
            entries: map + skipped as u64,
            window: (0, Vec::new()),
            done: 0,
            next: 0,
            extent: Vec::new(),
            used: 0,
        })
    }

    /// Blocks of the file.
    fn count(&self) -> u64 {
        self.contents.inode.size.div_ceil(BLOCK_BYTES)
    }

    /// Unpacks the next extent.
    fn advance(&mut self) -> Result<()> {
        let size = self.contents.inode.size;
        let (first, head) = (self.next, self.entry(self.next)?);
        ensure!(head.kind != lcluster::INSIDE, "an extent starts inside another");
        let start = first * BLOCK_BYTES + u64::from(head.low);
        ensure!(start == self.done, "extents do not follow each other");
        let mut blocks = 1;
        self.next += 1;
        let end = loop {
            if self.next >= self.count() {
                break size;
            }
            let entry = self.entry(self.next)?;
            if entry.kind != lcluster::INSIDE {
                break self.next * BLOCK_BYTES + u64::from(entry.low);
            }
            if self.next == first + 1 && self.may_be_big(head.kind) {
                ensure!(
                    entry.low & BLOCK_COUNT != 0,
                    "the number of an extent's blocks is missing"
                );
                blocks = u64::from(entry.low & !BLOCK_COUNT);
            }
            self.next += 1;
            ensure!((self.next - first) * BLOCK_BYTES <= EXTENT_MAX, "an extent is too large");
        };
        ensure!(start < end && end <= size, "an extent ends before its start or after the file");
        ensure!((1..=CLUSTER_BLOCKS_MAX).contains(&blocks), "an extent with {blocks} blocks");
        let (at, packed_size) = match self.tail_size {
            tail if tail > 0 && end == size => (self.tail()?, u64::from(tail)),
            _ => (u64::from(head.block) * BLOCK_BYTES, blocks * BLOCK_BYTES),
        };
        let mut packed = vec![0; usize::try_from(packed_size)?];
        self.contents.image.read(at, &mut packed)?;
        self.extent.resize(usize::try_from(end - start)?, 0);
        // After an error there is nothing to be read of it.
        self.used = self.extent.len();
        self.unpack(head.kind, &packed).with_context(|| format!("at byte {start}"))?;
        (self.done, self.used) = (end, 0);
        Ok(())
    }

    /// Fills the extent.
    fn unpack(&mut self, kind: u16, mut packed: &[u8]) -> Result<()> {
        if kind == lcluster::PLAIN {
            let plain = packed.get(..self.extent.len()).context("plain bytes are missing")?;
            self.extent.copy_from_slice(plain);
            return Ok(());
        }
        let compressor = usize::from(self.compressors[usize::from(kind == lcluster::HEAD_2)]);
        let name = COMPRESSORS.get(compressor).unwrap_or(&"an unknown compressor");
        ensure!(compressor == 0, "not supported: {name}");
        if self.contents.image.superblock.features & incompatible::ZERO_PADDING != 0 {
            let padding = packed.iter().take_while(|&&byte| byte == 0).count();
            packed = &packed[padding..];
        }
        unlz4::unpack(packed, &mut self.extent)
    }

    /// Whether an extent of this kind may have several blocks.
    fn may_be_big(&self, kind: u16) -> bool {
        let flag = match kind {
            lcluster::HEAD => advice::BIG_CLUSTER,
            lcluster::HEAD_2 => advice::BIG_CLUSTER_2,
            _ => 0,
        };
        self.advice & flag != 0
    }

    /// Where the bytes behind the map are.
    fn tail(&self) -> Result<u64> {
        let last = self.count() - 1;
        Ok(match self.contents.inode.layout {
            Layout::Full => self.entries + self.count() * ENTRY as u64,
            _ => {
                let pack = self.pack(last)?;
                pack.at + (pack.unit * pack.count) as u64
            }
        })
    }

    fn entry(&mut self, number: u64) -> Result<Entry> {
        if self.contents.inode.layout == Layout::Full {
            let bytes = self.map(self.entries + number * ENTRY as u64, ENTRY)?;
            let kind = u16_at(bytes, 0) & 3;
            let low = if kind == lcluster::INSIDE { u16_at(bytes, 4) } else { u16_at(bytes, 2) };
            ensure!(kind == lcluster::INSIDE || usize::from(low) < BLOCK, "an offset is too large");
            return Ok(Entry { kind, low, block: u32_at(bytes, 4) });
        }
        let is_big = self.advice & advice::BIG_CLUSTER != 0;
        let pack = self.pack(number)?;
        let bytes = self.map(pack.at, pack.unit * pack.count)?;
        Ok(compact_entry(bytes, &pack, is_big))
    }

    /// Where the entry `number` of the compact kind is.
    fn pack(&self, number: u64) -> Result<Pack> {
        let initial = (32 - self.entries % 32) / 4 % 8;
        let small = match self.advice & advice::TWO_BYTES != 0 && initial < self.count() {
            true => (self.count() - initial) / 16 * 16,
            false => 0,
        };
        let (at, unit, count) = match number.checked_sub(initial) {
            None => (self.entries + number * 4, 4, 2),
            Some(number) if number < small => (self.entries + initial * 4 + number * 2, 2, 16),
            Some(number) => (self.entries + initial * 4 + small * 2 + (number - small) * 4, 4, 2),
        };
        let size = (unit * count) as u64;
        let index = usize::try_from(at % size)? / unit;
        Ok(Pack { at: at / size * size, unit, count, index })
    }

    /// `length` bytes of the map.
    fn map(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let (start, bytes) = &self.window;
        let end = start + bytes.len() as u64;
        if at < *start || at + length as u64 > end {
            let left = self.contents.image.size.saturating_sub(at).min(WINDOW);
            let mut bytes = vec![0; usize::try_from(left)?.max(length)];
            self.contents.image.read(at, &mut bytes)?;
            self.window = (at, bytes);
        }
        let offset = usize::try_from(at - self.window.0)?;
        self.window.1.get(offset..offset + length).context("the map is cut off")
    }
}

/// One entry of a pack.
fn compact_entry(bytes: &[u8], pack: &Pack, is_big: bool) -> Entry {
    let bits = (pack.unit * pack.count - 4) * 8 / pack.count;
    let get = |index: usize| {
        let value = u32_at(bytes, bits * index / 8) >> (bits * index % 8);
        let [low, high, ..] = value.to_le_bytes();
        let value = u16::from_le_bytes([low, high]);
        (value >> 12 & 3, value & 0xfff)
    };
    let (kind, low) = get(pack.index);
    // Blocks of the extents of the same pack that come before.
    let mut before = u32::from(!is_big);
    for index in 0..pack.index {
        let (kind, low) = get(index);
        before += match kind {
            lcluster::INSIDE if is_big && low & BLOCK_COUNT != 0 => u32::from(low & !BLOCK_COUNT),
            lcluster::INSIDE => 0,
            _ if is_big => u32::from(get(index + 1).0 != lcluster::INSIDE),
            _ => 1,
        };
    }
    let base = u32_at(bytes, bytes.len() - 4);
    Entry { kind, low, block: base.wrapping_add(before) }
}

impl Read for Unpacker<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.extent.len() {
            if self.done == self.contents.inode.size {
                return Ok(0);
            }
            self.advance().map_err(in_io)?;
        }
        let mut rest = &self.extent[self.used..];
        let length = rest.read(buffer)?;
        self.used += length;
        Ok(length)
    }
}

impl Reader for Unpacker<'_> {}
