//! Segments: parts of a file that are compressed independently of each other.
//!
//! A segment starts at a multiple of [`SEGMENT`] in its file, so the segments do not depend
//! on the number of threads. It becomes a list of extents. An extent holds some bytes of
//! the file in a cluster of whole blocks: compressed, behind zeros
//! (`EROFS_FEATURE_INCOMPAT_ZERO_PADDING`), or unchanged where compression saves no block.
//!
//! The kernel has three demands (`fs/erofs/zmap.c`). Two extents never start in the same
//! block of the file. An extent that is not compressed has one block. The last extent of a
//! file is not compressed if it starts in the last block of the file.

use crate::erofs::layout::units::BLOCK;
use crate::erofs::lz4::{self, Search, fill};

/// Bytes of a segment.
pub(super) const SEGMENT: usize = lz4::INPUT_MAX;

/// Extent of a file: bytes that are stored in blocks of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileExtent {
    /// Number of bytes of the file.
    pub length: usize,
    /// Number of blocks in the image.
    pub blocks: u16,
    /// Stored form of the bytes.
    pub storage: Storage,
}

/// Whether an extent is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Unchanged.
    Plain,
    /// Compressed with LZ4.
    Lz4,
}

/// Segment in the form that goes into the image.
#[derive(Debug)]
pub(super) enum Segment {
    /// Unchanged bytes, without padding.
    Raw(Vec<u8>),
    /// Whole blocks with their extents. They are fewer than the blocks of the contents.
    Packed(Vec<u8>, Vec<FileExtent>),
}

/// Compresses a segment into clusters of up to `cluster` bytes, which is a multiple of
/// [`BLOCK`].
pub(super) fn compress(search: &mut impl Search, bytes: Vec<u8>, cluster: usize) -> Segment {
    let raw_size = bytes.len().next_multiple_of(BLOCK);
    let (mut out, mut extents) = (Vec::with_capacity(raw_size / 2), Vec::new());
    let mut space = vec![0; cluster];
    let mut at = 0;
    while at < bytes.len() && out.len() < raw_size {
        if bytes.len() - at > BLOCK {
            let packed = fill(search, &bytes, at, &mut space);
            let blocks = packed.made.div_ceil(BLOCK);
            if packed.taken > blocks * BLOCK {
                out.resize(out.len() + blocks * BLOCK - packed.made, 0);
                out.extend_from_slice(&space[..packed.made]);
                extents.push(extent(packed.taken, blocks, Storage::Lz4));
                at += packed.taken;
                continue;
            }
        }
        // If the bytes did not shrink in a whole cluster, smaller clusters will not help.
        for plain in bytes[at..].chunks(BLOCK).take(cluster / BLOCK) {
            out.extend_from_slice(plain);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
            extents.push(extent(plain.len(), 1, Storage::Plain));
            at += plain.len();
        }
    }
    match out.len() < raw_size {
        true => Segment::Packed(out, extents),
        false => Segment::Raw(bytes),
    }
}

fn extent(length: usize, blocks: usize, storage: Storage) -> FileExtent {
    FileExtent { length, blocks: u16::try_from(blocks).unwrap_or(u16::MAX), storage }
}

/// Extents of a segment of `size` bytes that is stored unchanged, in a file whose other
/// segments may be compressed.
pub(super) fn plain(size: usize) -> Vec<FileExtent> {
    let length = |start: usize| BLOCK.min(size - start);
    (0..size).step_by(BLOCK).map(|start| extent(length(start), 1, Storage::Plain)).collect()
}
