//! Which parts of a large file are holes.
//!
//! What counts is that bytes are zero, not how the source stored them, so that a
//! directory and an archive of it give equal images.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::layout::{BLOCK, BLOCK_BITS, BLOCK_BYTES};
use super::segment::SEGMENT;
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
    let mut at = source.next_data(0, size);
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
        at = source.next_data(at, size);
    }
    Ok(Some(chunks))
}

fn chunk_count(size: u64, bits: u32) -> u64 {
    size.div_ceil(BLOCK_BYTES << bits)
}

fn is_zero(block: &[u8]) -> bool {
    let (words, rest) = block.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}

/// Contents of which parts are skipped.
pub(super) enum Source<'a> {
    /// Can be read anywhere, and may know its holes.
    File(File),
    /// With the bytes that were read so far.
    Stream(Box<dyn Read + Send + 'a>, u64),
}

impl<'a> Source<'a> {
    pub(super) fn open(content: &'a Content) -> Result<Self> {
        Ok(match content.host_file()? {
            Some(file) => Self::File(file),
            None => Self::Stream(content.open()?, 0),
        })
    }

    /// Fills `buffer` with what is at `at`, not before the end of the last read.
    pub(super) fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, at).context("read"),
            Self::Stream(stream, position) => {
                let skipped = stream.by_ref().take(at.saturating_sub(*position));
                io::copy(&mut { skipped }, &mut io::sink()).context("read")?;
                *position = at + buffer.len() as u64;
                stream.read_exact(buffer).context("read")
            }
        }
    }

    /// The first block from `at` on that may hold data; `size` where there is none.
    fn next_data(&self, at: u64, size: u64) -> u64 {
        let Self::File(file) = self else { return at };
        let Ok(offset) = i64::try_from(at) else { return at };
        match lseek(file, offset, Whence::SeekData) {
            Ok(found) => u64::try_from(found).map_or(at, |found| found / BLOCK_BYTES * BLOCK_BYTES),
            Err(Errno::ENXIO) => size,
            // Not every file system can tell.
            Err(_) => at,
        }
        .max(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::notes::Notes;
    use crate::image::source::dir;
    use crate::image::tree::Kind;
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
