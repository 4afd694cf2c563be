//! Reading contents so that holes can be kept, or skipped.
//!
//! What counts for an image is that bytes are zero, not how the source stored them,
//! so that a directory and an archive of it give equal images: where a source knows
//! of a hole only saves reading it.

use std::io::Read;

use anyhow::{Context, Result};
use archive::bytes::is_zero;

use super::content::Content;
use super::pieces::Reader;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 17;

/// Bytes of the smallest file that counts as sparse: holes of smaller ones are written
/// or compressed sooner than they are found.
const SPARSE_MIN: u64 = 1 << 20;

/// Contents that are read once, whole blocks of holes passed over.
pub(super) struct Input<'a> {
    reader: Box<dyn Reader + 'a>,
    at: u64,
    size: u64,
}

impl<'a> Input<'a> {
    /// At the first byte of `content`.
    pub(super) fn open(content: &'a Content) -> Result<Self> {
        Ok(Self { reader: content.open()?, at: 0, size: content.size() })
    }

    /// Bytes that were read or passed over.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.size - self.at
    }

    /// Bytes of the hole that is next.
    pub(super) fn hole(&mut self) -> Result<u64> {
        Ok(self.reader.hole().context("read")?.min(self.left()))
    }

    /// Passes over `count` bytes of the hole that is next.
    pub(super) fn skip(&mut self, count: u64) {
        self.reader.skip(count);
        self.at += count;
    }

    /// Passes over the hole that is next, as far as it is whole blocks of `block`
    /// bytes; tells how many bytes that are.
    pub(super) fn skip_blocks(&mut self, block: u64) -> Result<u64> {
        let hole = self.hole()? / block * block;
        self.skip(hole);
        Ok(hole)
    }

    /// Goes to byte `at`, which is not before the position.
    pub(super) fn pass_to(&mut self, at: u64) -> Result<()> {
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

    /// Fills `buffer` with the next bytes.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.reader.read_exact(buffer).context("read")?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// The next bytes at the start of `buffer`: as many as are left and fit.
    pub(super) fn read_some<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b mut [u8]> {
        let count = usize::try_from(self.left()).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = &mut buffer[..count];
        self.read(bytes)?;
        Ok(bytes)
    }
}

/// The next part of some contents.
pub enum Part<'a> {
    /// So many zeros that the source does not store.
    Hole(u64),
    /// Bytes, perhaps zeros.
    Data(&'a [u8]),
}

/// Gives all of `content` to `visit`.
///
/// # Errors
/// What cannot be read; those of `visit`.
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

/// Whether at most `data_max` bytes of `content` are in blocks of `block` bytes that are
/// not zero; `note` gets offset and length of each of those, and ends the search with
/// `false`. No more is read than it takes to tell, and nothing of a small file.
///
/// # Errors
/// What cannot be read.
pub(super) fn data_of(
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

/// Whether two contents of equal size have equal bytes; where both have a hole,
/// nothing is read.
///
/// # Errors
/// What cannot be read.
pub(super) fn are_equal(a: &Content, b: &Content) -> Result<bool> {
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

    /// A file of holes with `data` at these offsets.
    fn sparse(size: u64, data: &[(u64, &[u8])]) -> Content {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
        Content::Part { archive: Arc::<File>::new(file), offset: 0, size }
    }

    /// Contents of 4 TiB: reading them would take hours.
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
    fn data_are_found_between_holes() {
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
