//! Sparse files: a file that is mostly zeros is stored as chunks, some of them holes.
//!
//! Format: kernel doc filesystems/erofs.rst, "Chunk-based files". A hole is found by its
//! zero bytes, no matter how the source stores them. So a directory and an archive of it
//! give equal images.

use anyhow::Result;
use archive::bytes::is_zero;

use super::segment::SEGMENT;
use crate::erofs::layout::units::{BLOCK, BLOCK_BYTES};
use crate::tree::Content;
use crate::tree::holes::{Input, data_of};

/// A file is sparse if at most one block in this many has data.
const DATA_PART: u64 = 4;
/// Most chunks of a file of up to [`LARGE`] bytes. Each takes 4 bytes of the image.
const CHUNKS_MAX: u64 = 1 << 16;
/// Bytes above which a file may have [`LARGE_CHUNKS_MAX`] chunks. A chunk is stored whole,
/// so fewer and larger chunks would waste more space.
const LARGE: u64 = 1 << 40;
/// Most chunks of a file of more than [`LARGE`] bytes.
const LARGE_CHUNKS_MAX: u64 = 1 << 20;
/// Base 2 logarithm of the blocks of the largest chunk (`EROFS_CHUNK_FORMAT_BLKBITS_MASK`).
const BITS_MAX: u8 = 31;

/// Chunks of a sparse file. All have the same size, but the last may be shorter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Base 2 logarithm of the number of blocks of a chunk.
    pub bits: u8,
    /// For each chunk, whether it has data.
    pub data: Vec<bool>,
}

impl Chunks {
    /// Number of bytes of each chunk but the last.
    pub(super) fn size(&self) -> u64 {
        BLOCK_BYTES << self.bits
    }

    /// Chunks of a file of `size` bytes without any data.
    pub(super) fn new(size: u64) -> Self {
        let count = |bits: u8| size.div_ceil(BLOCK_BYTES << bits);
        let most = if size > LARGE { LARGE_CHUNKS_MAX } else { CHUNKS_MAX };
        let bits = (0..BITS_MAX).find(|&bits| count(bits) <= most).unwrap_or(BITS_MAX);
        Self { bits, data: vec![false; usize::try_from(count(bits)).unwrap_or_default()] }
    }

    /// Whether every chunk has data.
    pub(super) fn are_full(&self) -> bool {
        self.data.iter().all(|has_data| *has_data)
    }
}

/// Whether `content` should be stored in chunks. It reads only as much as the answer needs.
pub(super) fn is_sparse(content: &Content) -> Result<bool> {
    data_of(content, BLOCK, content.size() / DATA_PART, &mut |_, _| true)
}

/// Passes every chunk that has data to `write`, and returns which chunks those are. A chunk
/// is passed in pieces of at most a segment, each of whole blocks except at the end of the
/// file.
pub(super) fn write(
    content: &Content,
    write: &mut dyn FnMut(Vec<u8>) -> Result<()>,
) -> Result<Chunks> {
    let mut chunks = Chunks::new(content.size());
    let mut input = Input::open(content)?;
    // Number of zeros at the start of the chunk that are not written yet.
    let mut pending = 0;
    while input.left() > 0 {
        let index = usize::try_from(input.at() / chunks.size())?;
        let end = content.size().min((index as u64 + 1) * chunks.size());
        let is_data = chunks.data.get(index).copied().unwrap_or_default();
        let room = end - input.at();
        let hole = input.hole()?.min(room);
        let hole = if hole == room { hole } else { hole / BLOCK_BYTES * BLOCK_BYTES };
        let mut bytes = Vec::new();
        if hole > 0 {
            input.skip(hole);
        } else {
            bytes.resize(usize::try_from(room.min(SEGMENT as u64))?, 0);
            input.read(&mut bytes)?;
        }
        let is_nothing = is_zero(&bytes);
        pending += if is_nothing { hole + bytes.len() as u64 } else { 0 };
        if is_data || !is_nothing {
            while pending > 0 {
                let zeros = pending.min(SEGMENT as u64);
                write(vec![0; usize::try_from(zeros)?])?;
                pending -= zeros;
            }
            chunks.data[index] = true;
        }
        if !is_nothing {
            write(bytes)?;
        }
        if input.at() == end {
            pending = 0;
        }
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::dir;
    use crate::tree::Kind;
    use files::notes::Notes;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    fn file_in(directory: &Path) -> Content {
        let tree = dir::read(directory, &mut Notes::default()).unwrap();
        match &tree.node(tree.find(b"f").unwrap()).kind {
            Kind::File(content) => content.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn chunks(content: &Content) -> (Chunks, Vec<u8>) {
        let mut bytes = Vec::new();
        let add = &mut |part: Vec<u8>| {
            bytes.extend(part);
            Ok(())
        };
        (write(content, add).unwrap(), bytes)
    }

    #[test]
    fn zeros_become_holes_whether_the_source_stores_them_or_not() {
        let mut bytes = vec![0; SEGMENT + 5];
        bytes[5000] = 1;
        bytes[SEGMENT + 4] = 1;
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(&[1], 5000).unwrap();
        file.write_all_at(&[1], SEGMENT as u64 + 4).unwrap();
        let expected: Vec<_> = (0..=256).map(|block| block == 1 || block == 256).collect();
        for content in [file_in(dir.path()), Content::Bytes(bytes.clone().into())] {
            assert!(is_sparse(&content).unwrap());
            let (found, written) = chunks(&content);
            assert_eq!(found, Chunks { bits: 0, data: expected.clone() });
            assert!(written == [&bytes[BLOCK..2 * BLOCK], &[0, 0, 0, 0, 1]].concat());
        }
        bytes[..SEGMENT / 2].fill(1);
        assert!(!is_sparse(&Content::Bytes(bytes.into())).unwrap());
    }

    #[test]
    fn chunk_sizes_stay_within_the_format() {
        for (size, bits, count) in [
            (1 << 40, 12, 1 << 16),
            ((1 << 40) + 1, 9, (1 << 19) + 1),
            (i64::MAX.unsigned_abs(), BITS_MAX, 1 << 20),
        ] {
            let chunks = Chunks::new(size);
            assert_eq!((chunks.bits, chunks.data.len()), (bits, count), "{size}");
        }
    }

    #[test]
    fn a_huge_file_has_large_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        file.set_len(1 << 40).unwrap();
        let at = (5 << 24) + (3 << 20);
        file.write_all_at(&[1], at).unwrap();
        let content = file_in(dir.path());
        assert!(is_sparse(&content).unwrap());
        let (chunks, written) = chunks(&content);
        assert_eq!((chunks.size(), chunks.data.len()), (16 << 20, 1 << 16));
        let data: Vec<_> = (0..chunks.data.len()).filter(|&index| chunks.data[index]).collect();
        assert_eq!(data, [5]);
        let ones: Vec<_> = (0..written.len()).filter(|&at| written[at] == 1).collect();
        assert_eq!((written.len(), &ones[..]), (16 << 20, &[3 << 20][..]));
    }
}
