//! Which parts of a large file are holes.
//!
//! What counts is that bytes are zero, not how the source stored them, so that a
//! directory and an archive of it give equal images.

use anyhow::Result;

use super::layout::{BLOCK, BLOCK_BITS, BLOCK_BYTES};
use super::segment::SEGMENT;
use crate::image::holes::{Source, is_zero};
use crate::image::tree::Content;

/// Smaller files are not looked at: what is zero is compressed.
const SIZE_MIN: u64 = SEGMENT as u64;
/// A file is sparse where at most one of so many blocks has data.
const DATA_PART: u64 = 4;
/// Most chunks of a file, each of which takes 4 bytes of the image.
const CHUNKS_MAX: u64 = 1 << 16;

/// A sparse file, in chunks of equal size; the last one may be shorter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Base 2 logarithm of a chunk's blocks.
    pub bits: u8,
    /// Whether there is data in each chunk.
    pub data: Vec<bool>,
}

impl Chunks {
    /// Bytes of all chunks but the last.
    pub(super) fn size(&self) -> u64 {
        BLOCK_BYTES << self.bits
    }
}

/// The chunks of `content`; `None` unless it is sparse.
pub(super) fn scan(content: &Content) -> Result<Option<Chunks>> {
    let size = content.size();
    if size < SIZE_MIN {
        return Ok(None);
    }
    let bits = (0..u64::BITS - u32::from(BLOCK_BITS))
        .find(|&bits| chunk_count(size, bits) <= CHUNKS_MAX)
        .unwrap_or_default();
    let count = usize::try_from(chunk_count(size, bits))?;
    let mut chunks = Chunks { bits: u8::try_from(bits)?, data: vec![false; count] };
    let mut data_blocks = 0_u64;
    let mut source = Source::open(content)?;
    let mut buffer = vec![0; SEGMENT];
    let mut at = source.next_data(0, size, BLOCK_BYTES);
    while at < size {
        let part = &mut buffer[..usize::try_from((size - at).min(SEGMENT as u64))?];
        source.read(at, part)?;
        for block in part.chunks(BLOCK) {
            if !is_zero(block) {
                data_blocks += 1;
                let chunk = usize::try_from(at / chunks.size())?;
                chunks.data[chunk] = true;
            }
            at += block.len() as u64;
        }
        if data_blocks * BLOCK_BYTES > size / DATA_PART {
            return Ok(None);
        }
        at = source.next_data(at, size, BLOCK_BYTES);
    }
    Ok(Some(chunks))
}

fn chunk_count(size: u64, bits: u32) -> u64 {
    size.div_ceil(BLOCK_BYTES << bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::notes::Notes;
    use crate::image::source::dir;
    use crate::image::tree::Kind;
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

    #[test]
    fn holes_are_what_is_zero() {
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
            let chunks = scan(&content).unwrap();
            assert_eq!(chunks, Some(Chunks { bits: 0, data: expected.clone() }));
            let mut part = [0; 5];
            Source::open(&content).unwrap().read(SEGMENT as u64, &mut part).unwrap();
            assert_eq!(part, [0, 0, 0, 0, 1]);
        }
        bytes[..SEGMENT / 2].fill(1);
        assert_eq!(scan(&Content::Bytes(bytes.into())).unwrap(), None);
    }

    #[test]
    fn a_huge_file_has_large_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        file.set_len(1 << 40).unwrap();
        let chunks = scan(&file_in(dir.path())).unwrap().unwrap();
        assert_eq!((chunks.size(), chunks.data.len()), (16 << 20, 1 << 16));
    }
}
