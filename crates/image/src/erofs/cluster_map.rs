//! The map of a compressed file: which extent each of its blocks belongs to.
//!
//! The full kind, with entries of 8 bytes, which kernels read since 4.19 and
//! which can be written while the file is compressed. An entry stands for a block
//! of the file: one in which an extent starts, or one inside of an extent, which
//! tells how far back that started and how far ahead the next one starts.

use super::layout::{BLOCK_BYTES, BLOCK_COUNT, ENTRY, MAP_HEADER, advice, lcluster};
use super::segment::{Extent, Form};

/// A map that is being written.
#[derive(Debug)]
pub(super) struct ClusterMap {
    /// Header and entries.
    bytes: Vec<u8>,
    /// Bytes of the file so far.
    size: u64,
    clusters: Clusters,
}

/// Whether clusters may have several blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clusters {
    OfOneBlock,
    OfSeveral,
}

impl ClusterMap {
    pub(super) fn new(clusters: Clusters) -> Self {
        let mut bytes = vec![0; MAP_HEADER];
        if clusters == Clusters::OfSeveral {
            bytes[4..6].copy_from_slice(&advice::BIG_CLUSTER.to_le_bytes());
        }
        Self { bytes, size: 0, clusters }
    }

    /// Bytes of the map of a file with `size` bytes.
    pub(super) fn len(size: u64) -> u64 {
        MAP_HEADER as u64 + size.div_ceil(BLOCK_BYTES) * ENTRY as u64
    }

    /// Adds the next extent of the file, which starts at `block` of the image.
    pub(super) fn push(&mut self, extent: Extent, block: u32) {
        let kind = match extent.form {
            Form::Plain => lcluster::PLAIN,
            Form::Lz4 => lcluster::HEAD,
        };
        let (first, offset) = split(self.size);
        self.head(kind, offset, block);
        self.size += extent.length as u64;
        let (next, _) = split(self.size);
        for inside in first + 1..next {
            let back = match self.clusters {
                Clusters::OfSeveral if inside == first + 1 => BLOCK_COUNT | extent.blocks,
                _ => distance(inside - first),
            };
            self.entry(lcluster::INSIDE, offset, [back, distance(next - inside)]);
        }
    }

    /// Header and entries of the whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // The kernel sees where the last extent ends from one that starts there
        // (`z_erofs_do_map_blocks`), or else unpacks up to the end of the block.
        if (self.bytes.len() as u64) < Self::len(self.size) {
            let (_, offset) = split(self.size);
            self.head(lcluster::PLAIN, offset, 0);
        }
        self.bytes
    }

    fn head(&mut self, kind: u16, offset: u16, block: u32) {
        let [a, b, c, d] = block.to_le_bytes();
        self.entry(kind, offset, [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]);
    }

    fn entry(&mut self, kind: u16, offset: u16, rest: [u16; 2]) {
        for field in [kind, offset].into_iter().chain(rest) {
            self.bytes.extend(field.to_le_bytes());
        }
    }
}

/// The block of a file that has the byte `at`, and where in it.
fn split(at: u64) -> (u64, u16) {
    (at / BLOCK_BYTES, u16::try_from(at % BLOCK_BYTES).unwrap_or_default())
}

/// Extents end with their segment, which has 256 blocks.
fn distance(blocks: u64) -> u16 {
    u16::try_from(blocks).unwrap_or(BLOCK_COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(length: usize, blocks: u16, form: Form) -> Extent {
        Extent { length, blocks, form }
    }

    /// Checked by hand against `struct z_erofs_lcluster_index`.
    #[test]
    fn entries_are_what_the_kernel_reads() {
        let mut map = ClusterMap::new(Clusters::OfSeveral);
        map.push(extent(3 * 4096 + 5, 2, Form::Lz4), 0x0001_0002);
        map.push(extent(4096, 1, Form::Plain), 0x0001_0004);
        map.push(extent(4096 + 2, 1, Form::Lz4), 0x0001_0005);
        let bytes = map.finish();
        assert_eq!(bytes[..MAP_HEADER], [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let entries: Vec<_> = bytes[MAP_HEADER..].chunks(ENTRY).collect();
        let expected: [[u8; ENTRY]; 6] = [
            [1, 0, 0, 0, 2, 0, 1, 0],    // starts, compressed, at block 0x10002
            [2, 0, 0, 0, 2, 0x08, 2, 0], // inside, 2 blocks in the image; next in 2
            [2, 0, 0, 0, 2, 0, 1, 0],    // inside: 2 back, next in 1
            [0, 0, 5, 0, 4, 0, 1, 0],    // starts at its byte 5, plain
            [1, 0, 5, 0, 5, 0, 1, 0],    // as the first
            [0, 0, 7, 0, 0, 0, 0, 0],    // the file ends at its byte 7
        ];
        assert_eq!(entries, expected);
        assert_eq!(ClusterMap::len(5 * 4096 + 7), bytes.len() as u64);
    }
}
