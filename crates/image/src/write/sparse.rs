//! Sparse files in a tar archive: their data without the holes.
//!
//! Format: version 1.0 of GNU tar's manual, "Storing Sparse Files". Records of the extended
//! header contain the name and the size of the file. The member's data is a map, padded to a
//! block, and then all stretches of data. The map consists of lines with decimal numbers:
//! the number of stretches, then offset and length of each. GNU tar, bsdtar and this crate
//! read such members; other tools see a file `GNUSparseFile.0/NAME`.

use std::io::Write;

use anyhow::{Context, Result};

use crate::tree::holes::{Input, data_of};
use crate::tree::{Content, show};
use crate::ustar::BLOCK;

/// Offset and length of a stretch of data are multiples of this, in bytes, except at the end
/// of the file.
const UNIT: usize = 4096;
/// Most stretches of one file. The map then has at most 8 MiB; readers limit its size, too.
const STRETCHES_MAX: usize = 1 << 18;
/// Bytes of the largest file that counts as small.
const SMALL: u64 = 1 << 30;
/// A small file counts as sparse if at most 1/4 of it is data. So most of a file that is not
/// sparse need not be read to find out.
const DATA_PART: u64 = 4;
/// A larger file counts as sparse if at least 1/8 of it is holes.
const HOLE_PART: u64 = 8;
/// Bytes that are copied at a time.
const BUFFER: usize = 1 << 17;

/// Directory that is added to the name for tools that do not know sparse files.
const DIRECTORY: &[u8] = b"GNUSparseFile.0/";

/// A sparse file that is written to an archive.
pub(super) struct SparseMember {
    /// Offset and length of each stretch of data.
    stretches: Vec<(u64, u64)>,
    /// Bytes of the file, holes included.
    size: u64,
    /// The map in its form for the archive.
    map: Vec<u8>,
}

impl SparseMember {
    /// Finds the data in `content`; `None` if it does not count as sparse. The result depends
    /// on the bytes alone, not on how the source stores them.
    pub(super) fn new(content: &Content) -> Result<Option<Self>> {
        let size = content.size();
        let most = if size > SMALL { size / HOLE_PART * (HOLE_PART - 1) } else { size / DATA_PART };
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        let is_sparse = data_of(content, UNIT, most, &mut |at, length| {
            match stretches.last_mut() {
                Some((start, before)) if *start + *before == at => *before += length,
                _ => stretches.push((at, length)),
            }
            stretches.len() <= STRETCHES_MAX
        })?;
        if !is_sparse {
            return Ok(None);
        }
        // An empty stretch at the end marks the size if the file ends with a hole.
        if stretches.last().is_none_or(|(at, length)| at + length < size) {
            stretches.push((size, 0));
        }
        let numbers = stretches.iter().flat_map(|(at, length)| [*at, *length]);
        let lines = std::iter::once(stretches.len() as u64).chain(numbers);
        let mut map = Vec::new();
        for number in lines {
            writeln!(map, "{number}")?;
        }
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        Ok(Some(Self { stretches, size, map }))
    }

    /// Keys and values of the records in the extended header of the file `path`.
    pub(super) fn records(&self, path: &[u8]) -> [(&'static [u8], Vec<u8>); 4] {
        [
            (b"GNU.sparse.major", b"1".to_vec()),
            (b"GNU.sparse.minor", b"0".to_vec()),
            (b"GNU.sparse.name", path.to_vec()),
            (b"GNU.sparse.realsize", self.size.to_string().into_bytes()),
        ]
    }

    /// The name in the header, for tools that do not know sparse files.
    pub(super) fn name(path: &[u8]) -> Vec<u8> {
        let split = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (directory, name) = path.split_at(split);
        [directory, DIRECTORY, name].concat()
    }

    /// Bytes of the member's data in the archive: map and data.
    pub(super) fn stored_size(&self) -> u64 {
        let data: u64 = self.stretches.iter().map(|(_, length)| length).sum();
        self.map.len() as u64 + data
    }

    /// Writes the map and the data of `content`. `path` is for errors.
    pub(super) fn write(&self, path: &[u8], content: &Content, out: &mut dyn Write) -> Result<()> {
        let name = || format!("read {}", show(path));
        out.write_all(&self.map).context("write")?;
        let mut input = Input::open(content).with_context(name)?;
        let mut buffer = vec![0; BUFFER];
        for &(at, length) in &self.stretches {
            input.pass_to(at).with_context(name)?;
            let mut left = length;
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                input.read(&mut buffer[..count]).with_context(name)?;
                out.write_all(&buffer[..count]).context("write")?;
                left -= count as u64;
            }
        }
        Ok(())
    }
}
