//! Contents of files, compressed in parts that do not know of each other.
//!
//! A segment starts at a multiple of [`SEGMENT`] in its file, so that any number
//! of threads cut a file alike. It becomes a list of extents: each some bytes of
//! the file in its own cluster of blocks, compressed (behind zeros: the feature
//! "zero padding") or, where that saves no block, as they are.
//!
//! The kernel wants of an extent (`fs/erofs/zmap.c`): it starts in another block
//! of the file than the one before; one that is not compressed has one block; the
//! last one of a file is not compressed where it starts in the file's last block.

use super::layout::BLOCK;
use super::lz4::fill;
use super::matches::Search;

/// Bytes of a file that are compressed on their own.
pub(super) const SEGMENT: usize = 1 << 20;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of the file.
    pub length: usize,
    /// Blocks in the image.
    pub blocks: u16,
    /// How it is stored.
    pub form: Form,
}

/// How an extent is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// Compressed.
    Lz4,
}

/// A segment as it goes into the image.
#[derive(Debug)]
pub(super) enum Segment {
    /// As it is, padded by none.
    Raw(Vec<u8>),
    /// Whole blocks, fewer than those of the contents.
    Packed(Vec<u8>, Vec<Extent>),
}

/// Compresses `bytes` into clusters of up to `cluster` bytes, a multiple of
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
                extents.push(extent(packed.taken, blocks, Form::Lz4));
                at += packed.taken;
                continue;
            }
        }
        // What did not shrink in the whole space is not tried block by block.
        for plain in bytes[at..].chunks(BLOCK).take(cluster / BLOCK) {
            out.extend_from_slice(plain);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
            extents.push(extent(plain.len(), 1, Form::Plain));
            at += plain.len();
        }
    }
    match out.len() < raw_size {
        true => Segment::Packed(out, extents),
        false => Segment::Raw(bytes),
    }
}

fn extent(length: usize, blocks: usize, form: Form) -> Extent {
    Extent { length, blocks: u16::try_from(blocks).unwrap_or(u16::MAX), form }
}

/// Extents of bytes stored as they are, for a file of which other segments are
/// compressed.
pub(super) fn plain(size: usize) -> Vec<Extent> {
    let length = |start: usize| BLOCK.min(size - start);
    (0..size).step_by(BLOCK).map(|start| extent(length(start), 1, Form::Plain)).collect()
}
