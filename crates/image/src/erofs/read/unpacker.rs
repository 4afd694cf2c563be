//! Reader of a compressed file in an EROFS image, extent by extent.
//!
//! Format: see the cluster map in `layout::lcluster`. The compact kind packs 2 entries
//! into 8 bytes, or 16 entries into 32. An entry has 16 or 14 bits: the upper two are the
//! type, the lower 12 an offset or a distance. The last 4 bytes of a pack are a block
//! address: the block before that of the first extent of the pack. Packs of 8 bytes come
//! first, up to a multiple of 32 bytes; packs of 32 bytes follow if the header says so; the
//! last entries are in packs of 8 bytes again.

use std::io::{self, Read};

use anyhow::{Context, Result, ensure};

use super::image::StoredInode;
use crate::erofs::layout::fields::{u16_at, u32_at};
use crate::erofs::layout::inode::DataLayout;
use crate::erofs::layout::lcluster::{BLOCK_COUNT, MAP_ENTRY, MAP_HEADER, advice, kind};
use crate::erofs::layout::superblock::incompatible;
use crate::erofs::layout::units::{BLOCK, BLOCK_BYTES};
use crate::erofs::lz4;
use crate::tree::Reader;
use crate::tree::pieces::in_io;

/// Most bytes of a file in one extent (`Z_EROFS_PCLUSTER_MAX_DSIZE`).
const EXTENT_MAX: u64 = 12 << 20;
/// Most blocks of one extent (`Z_EROFS_PCLUSTER_MAX_SIZE`).
const CLUSTER_BLOCKS_MAX: u64 = 256;
/// Names of the compressors, indexed by `Z_EROFS_COMPRESSION_LZ4` and others.
const COMPRESSORS: &[&str] = &["lz4", "lzma", "deflate", "zstd"];
/// Number of bytes of a map that are read at once.
const WINDOW: u64 = 4096;

/// Reader that decompresses a file from its first byte to its last.
pub(super) struct ExtentReader<'a> {
    stored: &'a StoredInode,
    /// Bits of [`advice`].
    advice: u16,
    /// Compressors of the extents of type [`kind::HEAD1`] and [`kind::HEAD2`].
    compressors: [u8; 2],
    /// Bytes of the last extent, if that follows the map; otherwise 0.
    tail_size: u16,
    /// Byte of the image where the entries start.
    entries: u64,
    /// Part of the map in memory, and the byte of the image where it starts.
    window: (u64, Vec<u8>),
    /// Bytes of the file that were unpacked.
    done: u64,
    /// Block of the file in which the next extent starts.
    next: u64,
    /// Unpacked bytes of the current extent.
    extent: Vec<u8>,
    /// Bytes of `extent` that the caller has read.
    used: usize,
}

/// Decoded map entry of a block of the file.
#[derive(Clone, Copy, Debug, Default)]
struct MapEntry {
    /// Type, see [`kind`].
    kind: u16,
    /// Offset in the block where the extent starts (`di_clusterofs`), or the distance back
    /// (`di_u.delta[0]`) in an entry inside an extent.
    low: u16,
    /// First block of the extent in the image.
    block: u32,
}

/// Position of an entry of the compact kind.
struct MapPack {
    /// Byte of the image where the pack starts.
    at: u64,
    /// Bytes of an entry.
    unit: usize,
    /// Number of entries in the pack.
    count: usize,
    /// Index of the entry in the pack.
    index: usize,
}

impl<'a> ExtentReader<'a> {
    /// Reads the header of the map.
    ///
    /// # Errors
    /// The map is cut off, or uses a feature that we do not read.
    pub(super) fn new(stored: &'a StoredInode) -> Result<Self> {
        let map = stored.end.next_multiple_of(8);
        let mut header = [0; 8];
        stored.image.read(map, &mut header)?;
        let (advice, compressors, bits) = (u16_at(&header, 4), header[6], header[7]);
        ensure!(
            bits == 0,
            "not supported: fragments, or logical clusters of another size than 4 KiB"
        );
        let unknown = advice & !advice::READABLE;
        ensure!(unknown == 0, "not supported: a compressed file with advice {unknown:#x}");
        let skipped =
            if stored.inode.layout == DataLayout::CompressedFull { MAP_HEADER } else { 8 };
        Ok(Self {
            stored,
            advice,
            compressors: [compressors & 15, compressors >> 4],
            tail_size: if advice & advice::INLINE_PCLUSTER == 0 { 0 } else { u16_at(&header, 2) },
            entries: map + skipped as u64,
            window: (0, Vec::new()),
            done: 0,
            next: 0,
            extent: Vec::new(),
            used: 0,
        })
    }

    /// Number of blocks of the file.
    fn count(&self) -> u64 {
        self.stored.inode.size.div_ceil(BLOCK_BYTES)
    }

    /// Unpacks the next extent into `extent`.
    fn advance(&mut self) -> Result<()> {
        let size = self.stored.inode.size;
        let (first, head) = (self.next, self.entry(self.next)?);
        ensure!(head.kind != kind::NONHEAD, "an extent starts inside another");
        let start = first * BLOCK_BYTES + u64::from(head.low);
        ensure!(start == self.done, "extents do not follow each other");
        let mut blocks = 1;
        self.next += 1;
        let end = loop {
            if self.next >= self.count() {
                break size;
            }
            let entry = self.entry(self.next)?;
            if entry.kind != kind::NONHEAD {
                break self.next * BLOCK_BYTES + u64::from(entry.low);
            }
            if self.next == first + 1 && self.may_be_big(head.kind) {
                ensure!(entry.low & BLOCK_COUNT != 0, "an extent lacks its number of blocks");
                blocks = u64::from(entry.low & !BLOCK_COUNT);
            }
            self.next += 1;
            ensure!((self.next - first) * BLOCK_BYTES <= EXTENT_MAX, "an extent is too large");
        };
        ensure!(start < end && end <= size, "an extent ends before its start or after the file");
        ensure!((1..=CLUSTER_BLOCKS_MAX).contains(&blocks), "an extent has {blocks} blocks");
        let (at, packed_size) = match self.tail_size {
            tail if tail > 0 && end == size => (self.tail()?, u64::from(tail)),
            _ => (u64::from(head.block) * BLOCK_BYTES, blocks * BLOCK_BYTES),
        };
        let mut packed = vec![0; usize::try_from(packed_size)?];
        self.stored.image.read(at, &mut packed)?;
        self.extent.resize(usize::try_from(end - start)?, 0);
        // If unpacking fails, a later read must not see these bytes.
        self.used = self.extent.len();
        self.unpack(head.kind, &packed).with_context(|| format!("at byte {start}"))?;
        (self.done, self.used) = (end, 0);
        Ok(())
    }

    /// Fills `extent` from the bytes `packed` of the image.
    fn unpack(&mut self, kind: u16, mut packed: &[u8]) -> Result<()> {
        if kind == kind::PLAIN {
            let plain = packed
                .get(..self.extent.len())
                .context("an extent that is not compressed is too short")?;
            self.extent.copy_from_slice(plain);
            return Ok(());
        }
        let compressor = usize::from(self.compressors[usize::from(kind == kind::HEAD2)]);
        let name = COMPRESSORS.get(compressor).unwrap_or(&"an unknown compressor");
        ensure!(compressor == 0, "not supported: {name}");
        if self.stored.image.superblock.features & incompatible::ZERO_PADDING != 0 {
            let padding = packed.iter().take_while(|&&byte| byte == 0).count();
            packed = &packed[padding..];
        }
        lz4::unpack(packed, &mut self.extent)
    }

    /// Whether an extent of the type `kind` may have several blocks.
    fn may_be_big(&self, kind: u16) -> bool {
        let flag = match kind {
            kind::HEAD1 => advice::BIG_PCLUSTER_1,
            kind::HEAD2 => advice::BIG_PCLUSTER_2,
            _ => 0,
        };
        self.advice & flag != 0
    }

    /// Byte of the image where the map ends.
    fn tail(&self) -> Result<u64> {
        let last = self.count() - 1;
        Ok(match self.stored.inode.layout {
            DataLayout::CompressedFull => self.entries + self.count() * MAP_ENTRY as u64,
            _ => {
                let pack = self.pack(last)?;
                pack.at + (pack.unit * pack.count) as u64
            }
        })
    }

    /// Reads the entry of block `number` of the file.
    fn entry(&mut self, number: u64) -> Result<MapEntry> {
        if self.stored.inode.layout == DataLayout::CompressedFull {
            let bytes = self.map(self.entries + number * MAP_ENTRY as u64, MAP_ENTRY)?;
            let kind = u16_at(bytes, 0) & 3;
            let low = if kind == kind::NONHEAD { u16_at(bytes, 4) } else { u16_at(bytes, 2) };
            ensure!(
                kind == kind::NONHEAD || usize::from(low) < BLOCK,
                "the offset of an extent is too large"
            );
            return Ok(MapEntry { kind, low, block: u32_at(bytes, 4) });
        }
        let is_big = self.advice & advice::BIG_PCLUSTER_1 != 0;
        let pack = self.pack(number)?;
        let bytes = self.map(pack.at, pack.unit * pack.count)?;
        Ok(compact_entry(bytes, &pack, is_big))
    }

    /// Finds the entry of block `number` in a map of the compact kind.
    fn pack(&self, number: u64) -> Result<MapPack> {
        let initial = (32 - self.entries % 32) / 4 % 8;
        let small = match self.advice & advice::COMPACTED_2B != 0 && initial < self.count() {
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
        Ok(MapPack { at: at / size * size, unit, count, index })
    }

    /// The `length` bytes of the map at byte `at` of the image.
    fn map(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let (start, bytes) = &self.window;
        let end = start + bytes.len() as u64;
        if at < *start || at + length as u64 > end {
            let left = self.stored.image.size.saturating_sub(at).min(WINDOW);
            let mut bytes = vec![0; usize::try_from(left)?.max(length)];
            self.stored.image.read(at, &mut bytes)?;
            self.window = (at, bytes);
        }
        let offset = usize::try_from(at - self.window.0)?;
        self.window.1.get(offset..offset + length).context("the cluster map is cut off")
    }
}

/// Decodes one entry of a pack. `is_big` says that extents may have several blocks.
fn compact_entry(bytes: &[u8], pack: &MapPack, is_big: bool) -> MapEntry {
    let bits = (pack.unit * pack.count - 4) * 8 / pack.count;
    let get = |index: usize| {
        let value = u32_at(bytes, bits * index / 8) >> (bits * index % 8);
        let [low, high, ..] = value.to_le_bytes();
        let value = u16::from_le_bytes([low, high]);
        (value >> 12 & 3, value & 0xfff)
    };
    let (kind, low) = get(pack.index);
    // Number of blocks of the earlier extents of the same pack.
    let mut before = u32::from(!is_big);
    for index in 0..pack.index {
        let (kind, low) = get(index);
        before += match kind {
            kind::NONHEAD if is_big && low & BLOCK_COUNT != 0 => u32::from(low & !BLOCK_COUNT),
            kind::NONHEAD => 0,
            _ if is_big => u32::from(get(index + 1).0 != kind::NONHEAD),
            _ => 1,
        };
    }
    let base = u32_at(bytes, bytes.len() - 4);
    MapEntry { kind, low, block: base.wrapping_add(before) }
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.extent.len() {
            if self.done == self.stored.inode.size {
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

impl Reader for ExtentReader<'_> {}
