//! Reading contents with regard to holes: keep them, skip them, or compare them.
//!
//! An image depends only on which bytes are zero, not on whether the source stored these
//! zeros. So a directory and an archive of it give equal images. If a source knows of a
//! hole, this only saves reading it.

use std::io::Read;

use anyhow::{Context, Result};
use archive::bytes::is_zero;

use super::content::Content;
use super::pieces::Reader;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 17;

/// Bytes of the smallest file that counts as sparse. In a smaller file, looking for holes
/// takes longer than writing or compressing them.
const SPARSE_MIN: u64 = 1 << 20;

/// Reader of contents that can pass over holes, and knows its position.
pub(crate) struct Input<'a> {
    reader: Box<dyn Reader + 'a>,
    at: u64,
    size: u64,
}

impl<'a> Input<'a> {
    /// Opens `content` at its first byte.
    pub(crate) fn open(content: &'a Content) -> Result<Self> {
        Ok(Self { reader: content.open()?, at: 0, size: content.size() })
    }

    /// Position: the number of bytes that were read or passed over.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Number of bytes from the position to the end.
    pub(crate) fn left(&self) -> u64 {
        self.size - self.at
    }

    /// Length of the hole at the position; 0 if there is data.
    pub(crate) fn hole(&mut self) -> Result<u64> {
        Ok(self.reader.hole().context("read")?.min(self.left()))
    }

    /// Passes over `count` bytes of the hole at the position.
    pub(crate) fn skip(&mut self, count: u64) {
        self.reader.skip(count);
        self.at += count;
    }

    /// Passes over all whole blocks, of `block` bytes each, in the hole at the position.
    /// Returns the number of bytes passed over.
    pub(crate) fn skip_blocks(&mut self, block: u64) -> Result<u64> {
        let hole = self.hole()? / block * block;
        self.skip(hole);
        Ok(hole)
    }

    /// Passes over the bytes up to offset `at`, which must not be before the position.
    pub(crate) fn pass_to(&mut self, at: u64) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        while let Some(rest @ 1..) = at.checked_sub(self.at) {
            match self.hole()?.min(rest) {
                0 => {
                    let count = usize::try_from(rest).unwrap_or(BUFFER).min(BUFFER);
                    self.read(&mut buffer[..count])?;
                }
                hole => self.skip(hole),
            }
        }
        Ok(())
    }

    /// Reads the next bytes until `buffer` is full.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.reader.read_exact(buffer).context("read")?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// Reads as many bytes as are left and fit into `buffer`. Returns them.
    pub(crate) fn read_some<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b mut [u8]> {
        let count = usize::try_from(self.left()).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = &mut buffer[..count];
        self.read(bytes)?;
        Ok(bytes)
    }
}

/// One part of some contents: a hole or data.
pub enum Part<'a> {
    /// A number of zero bytes that the source does not store.
    Hole(u64),
    /// Bytes that the source stores; they may be zero, too.
    Data(&'a [u8]),
}

/// Passes all of `content` to `visit`, part by part from the start.
///
/// # Errors
/// Contents that cannot be read; errors of `visit`.
pub fn for_parts(content: &Content, visit: &mut dyn FnMut(Part) -> Result<()>) -> Result<()> {
    let mut input = Input::open(content)?;
    let room = usize::try_from(content.size()).unwrap_or(BUFFER).min(BUFFER);
    let mut buffer = vec![0; room];
    while input.left() > 0 {
        match input.skip_blocks(1)? {
            0 => visit(Part::Data(input.read_some(&mut buffer)?))?,
            hole => visit(Part::Hole(hole))?,
        }
    }
    Ok(())
}

/// Whether `content` is sparse: at most `data_max` bytes of it are in blocks, of `block`
/// bytes each, that are not all zero. Passes offset and length of each such block to
/// `note`; if `note` returns `false`, the result is `false`. Reads no more than necessary
/// for the answer; a small file is never sparse, and is not read at all.
///
/// # Errors
/// Contents that cannot be read.
pub(crate) fn data_of(
    content: &Content,
    block: usize,
    data_max: u64,
    note: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<bool> {
    if content.size() < SPARSE_MIN {
        return Ok(false);
    }
    let mut data = 0;
    let mut input = Input::open(content)?;
    let mut buffer = vec![0; BUFFER / block * block];
    loop {
        input.skip_blocks(block as u64)?;
        let at = input.at();
        let part = input.read_some(&mut buffer)?;
        if part.is_empty() {
            return Ok(true);
        }
        for (start, bytes) in (at..).step_by(block).zip(part.chunks(block)) {
            if is_zero(bytes) {
                continue;
            }
            data += bytes.len() as u64;
            if data > data_max || !note(start, bytes.len() as u64) {
                return Ok(false);
            }
        }
    }
}

/// Whether two contents of equal size have equal bytes. Where both have a hole, nothing is
/// read.
///
/// # Errors
/// Contents that cannot be read.
pub fn are_equal(a: &Content, b: &Content) -> Result<bool> {
    let (mut a, mut b) = (Input::open(a)?, Input::open(b)?);
    let mut buffers = [vec![0; BUFFER], vec![0; BUFFER]];
    while a.left() > 0 {
        let both = a.hole()?.min(b.hole()?);
        if both > 0 {
            a.skip(both);
            b.skip(both);
            continue;
        }
        let [ours, theirs] = &mut buffers;
        if a.read_some(ours)? != b.read_some(theirs)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    /// Contents with holes, and with data at the given offsets.
    fn sparse(size: u64, data: &[(u64, &[u8])]) -> Content {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
        Content::Part { archive: Arc::<File>::new(file), offset: 0, size }
    }

    /// Compares contents of 4 TiB, which would take hours to read.
    #[test]
    fn holes_are_not_read_to_compare() {
        const SIZE: u64 = 4 << 40;
        let a = sparse(SIZE, &[(3 << 40, b"data")]);
        let other = sparse(SIZE, &[(3 << 40, b"date")]);
        let zeros = sparse(SIZE, &[(5 << 20, &[0; 1 << 14]), (3 << 40, b"data")]);
        assert!(are_equal(&a, &a).unwrap());
        assert!(are_equal(&a, &zeros).unwrap() && are_equal(&zeros, &a).unwrap());
        assert!(!are_equal(&a, &other).unwrap());
    }

    #[test]
    fn data_is_found_between_holes() {
        let content =
            sparse(1 << 40, &[(8192, &[0; 4096]), (1 << 30, b"x"), ((1 << 40) - 1, b"y")]);
        let found = |most| {
            let mut found = Vec::new();
            let is_sparse = data_of(&content, 4096, most, &mut |at, length| {
                found.push((at, length));
                true
            });
            (is_sparse.unwrap(), found)
        };
        let expected = vec![(1 << 30, 4096), ((1 << 40) - 4096, 4096)];
        assert_eq!(found(8192), (true, expected.clone()));
        assert_eq!(found(8191), (false, expected[..1].to_vec()));
        let mut input = Input::open(&content).unwrap();
        let mut byte = [0];
        for (at, expected) in [(1 << 30, b'x'), ((1 << 40) - 1, b'y')] {
            input.pass_to(at).unwrap();
            input.read(&mut byte).unwrap();
            assert_eq!(byte, [expected]);
        }
    }
}
