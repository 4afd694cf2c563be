//! Cluster map of a compressed file: it assigns each block of the file to an extent.
//!
//! Format: see `layout::lcluster`. We write the full kind, with entries of 8 bytes. Kernels
//! read it since 4.19, and it can be written while the file is compressed. Each entry
//! stands for a block of the file. An extent starts in the block, or the block lies inside
//! an extent; the entry then has the distance back to the start of that extent and the
//! distance on to the start of the next one.

use super::segment::{FileExtent, Storage};
use crate::erofs::layout::lcluster::{BLOCK_COUNT, MAP_ENTRY, MAP_HEADER, advice, kind};
use crate::erofs::layout::units::BLOCK_BYTES;

/// Cluster map that is being written.
#[derive(Debug)]
pub(super) struct ClusterMap {
    /// Header and entries.
    bytes: Vec<u8>,
    /// Bytes of the file that the map covers so far.
    size: u64,
    clusters: ClusterSize,
}

/// Largest size of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClusterSize {
    /// Each cluster has one block.
    OneBlock,
    /// A cluster may have several blocks.
    SeveralBlocks,
}

impl ClusterMap {
    /// Empty map.
    pub(super) fn new(clusters: ClusterSize) -> Self {
        let mut bytes = vec![0; MAP_HEADER];
        if clusters == ClusterSize::SeveralBlocks {
            bytes[4..6].copy_from_slice(&advice::BIG_PCLUSTER_1.to_le_bytes());
        }
        Self { bytes, size: 0, clusters }
    }

    /// Number of bytes of the map of a file with `size` bytes.
    pub(super) fn len(size: u64) -> u64 {
        MAP_HEADER as u64 + size.div_ceil(BLOCK_BYTES) * MAP_ENTRY as u64
    }

    /// Adds the next extent of the file, which is stored from `block` of the image on.
    pub(super) fn push(&mut self, extent: FileExtent, block: u32) {
        let kind = match extent.storage {
            Storage::Plain => kind::PLAIN,
            Storage::Lz4 => kind::HEAD1,
        };
        let (first, offset) = split(self.size);
        self.head(kind, offset, block);
        self.size += extent.length as u64;
        let (next, _) = split(self.size);
        for inside in first + 1..next {
            let back = match self.clusters {
                ClusterSize::SeveralBlocks if inside == first + 1 => BLOCK_COUNT | extent.blocks,
                _ => distance(inside - first),
            };
            self.entry(kind::NONHEAD, offset, [back, distance(next - inside)]);
        }
    }

    /// Completes the map and returns its bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // The kernel takes the end of the last extent from an entry that starts there
        // (`z_erofs_do_map_blocks`). Without it the kernel unpacks to the end of the block.
        if (self.bytes.len() as u64) < Self::len(self.size) {
            let (_, offset) = split(self.size);
            self.head(kind::PLAIN, offset, 0);
        }
        self.bytes
    }

    /// Adds an entry for a block in which an extent starts.
    fn head(&mut self, kind: u16, offset: u16, block: u32) {
        let [a, b, c, d] = block.to_le_bytes();
        self.entry(kind, offset, [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]);
    }

    /// Adds an entry.
    fn entry(&mut self, kind: u16, offset: u16, rest: [u16; 2]) {
        for field in [kind, offset].into_iter().chain(rest) {
            self.bytes.extend(field.to_le_bytes());
        }
    }
}

/// Splits a position in a file into the number of its block and the offset in that block.
fn split(at: u64) -> (u64, u16) {
    (at / BLOCK_BYTES, u16::try_from(at % BLOCK_BYTES).unwrap_or_default())
}

/// Number of blocks as an entry holds it. An extent ends with its segment, which has 256
/// blocks, so the number always fits.
fn distance(blocks: u64) -> u16 {
    u16::try_from(blocks).unwrap_or(BLOCK_COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(length: usize, blocks: u16, storage: Storage) -> FileExtent {
        FileExtent { length, blocks, storage }
    }

    /// The expected bytes were written by hand after `struct z_erofs_lcluster_index`.
    #[test]
    fn entries_have_the_format_of_the_kernel() {
        let mut map = ClusterMap::new(ClusterSize::SeveralBlocks);
        map.push(extent(3 * 4096 + 5, 2, Storage::Lz4), 0x0001_0002);
        map.push(extent(4096, 1, Storage::Plain), 0x0001_0004);
        map.push(extent(4096 + 2, 1, Storage::Lz4), 0x0001_0005);
        let bytes = map.finish();
        assert_eq!(bytes[..MAP_HEADER], [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let entries: Vec<_> = bytes[MAP_HEADER..].chunks(MAP_ENTRY).collect();
        let expected: [[u8; MAP_ENTRY]; 6] = [
            [1, 0, 0, 0, 2, 0, 1, 0], // an extent starts: compressed, at block 0x10002
            [2, 0, 0, 0, 2, 0x08, 2, 0], // inside: 2 blocks in the image, next extent 2 ahead
            [2, 0, 0, 0, 2, 0, 1, 0], // inside: start 2 back, next extent 1 ahead
            [0, 0, 5, 0, 4, 0, 1, 0], // a plain extent starts at byte 5 of its block
            [1, 0, 5, 0, 5, 0, 1, 0], // a compressed extent starts
            [0, 0, 7, 0, 0, 0, 0, 0], // the file ends at byte 7 of its block
        ];
        assert_eq!(entries, expected);
        assert_eq!(ClusterMap::len(5 * 4096 + 7), bytes.len() as u64);
    }
}
