//! The blocks of a tar archive: headers of members, and data after them.
//!
//! Format: POSIX pax(1), "ustar Interchange Format". Blocks of zeros end an archive. Data
//! after them is never dropped without a note.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use archive::bytes::{At, is_zero};
use archive::newc::after_padding;
use files::notes::Notes;

use crate::source::bytes_at;
use crate::ustar::{BLOCK, Header};

/// Bytes that are read at a time. It has room for an extended header and the header after it;
/// more would mostly be data of files, which nobody reads here.
const WINDOW: usize = 4 << 10;
/// [`BLOCK`] as a number for offsets.
const BLOCK_BYTES: u64 = BLOCK as u64;

const ANOTHER: &str = "another archive after the end of the first is read, too, as tar -i does";
/// Beginning of the note about an archive that may have been cut.
pub const NO_END: &str = "no block of zeros ends the archive: if it was cut, members are missing";
const LEFT_OUT: &str = "data after the end of the archive is left out";
const REST: &str = "data after the end of the archive is not an archive and is left out";

/// End of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArchiveEnd {
    /// The first block of zeros ends the archive. For a device, which may contain any data
    /// after the archive.
    AtZeros,
    /// The end of the file, at this offset, ends the archive.
    At(u64),
}

/// How the blocks are read where writers of tar archives differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As any of the writers may have meant it: a link may have data, and an archive may follow
    /// the first one.
    Lenient,
    /// As the tools for OCI images do, so that a layer has the same members for all programs: a
    /// link or a directory has no data, and what follows the end is left out with a note.
    OfLayer,
}

/// Kind of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockKind {
    /// A header.
    Header,
    /// A block of zeros.
    Zeros,
    /// Any other block.
    Other,
    /// There is no block, because the archive has ended.
    Missing,
}

/// Reader of the blocks of an archive.
pub(super) struct TarBlocks<'a> {
    /// The archive.
    pub(super) archive: &'a Arc<File>,
    end: ArchiveEnd,
    reading: Reading,
    /// Offset of the next block.
    at: u64,
    /// Bytes of the archive that were read last.
    window: Vec<u8>,
    /// Offset of these bytes.
    window_at: u64,
}

impl<'a> TarBlocks<'a> {
    /// A reader at the first block of `archive`.
    pub(super) fn new(archive: &'a Arc<File>, reading: Reading) -> Result<Self> {
        let metadata = archive.metadata()?;
        let end = match metadata.file_type().is_block_device() {
            true => ArchiveEnd::AtZeros,
            false => ArchiveEnd::At(metadata.len()),
        };
        Ok(Self { archive, end, reading, at: 0, window: Vec::new(), window_at: 0 })
    }

    /// Reads the next header. Returns it with its offset; `None` at the end of the archive.
    ///
    /// # Errors
    /// A block that is neither a header nor zeros.
    pub(super) fn header(&mut self, notes: &mut Notes) -> Result<Option<(Header, u64)>> {
        let mut block = [0; BLOCK];
        let start = self.at;
        // Some writers do not end an archive with zeros, or do not fill its last block.
        let count = self.read(start, &mut block)?;
        let is_end = count < BLOCK;
        if !is_zero(&block) {
            ensure!(!is_end, "offset {start}: truncated");
            let header = Header::parse(&block);
            let header =
                header.with_context(|| format!("offset {start}: no header of a member"))?;
            self.at = start + BLOCK_BYTES;
            return Ok(Some((header, start)));
        }
        // The digests of a layer show that it was not cut.
        if count == 0 && self.reading == Reading::Lenient {
            notes.add(NO_END, format!("offset {start}").as_bytes());
        }
        if is_end || self.end == ArchiveEnd::AtZeros {
            return Ok(None);
        }
        let Some(behind) = after_padding(self.archive, start)? else { return Ok(None) };
        let behind = behind / BLOCK_BYTES * BLOCK_BYTES;
        let count = self.read(behind, &mut block)?;
        // A single block of zeros does not end an archive, but some writers have one inside.
        let is_lone = behind == start + BLOCK_BYTES;
        let header = Header::parse(&block).filter(|_| count == BLOCK);
        let (what, header) = match (header, self.reading) {
            (Some(_), Reading::OfLayer) if !is_lone => (LEFT_OUT, None),
            (Some(header), _) => (ANOTHER, Some(header)),
            (None, _) => (REST, None),
        };
        notes.add(what, format!("offset {behind}").as_bytes());
        self.at = behind + BLOCK_BYTES;
        Ok(header.map(|header| (header, behind)))
    }

    /// Whether a block that is not zeros was read.
    pub(super) fn has_begun(&self) -> bool {
        self.at > 0
    }

    /// Reads the next block, whatever its kind.
    ///
    /// # Errors
    /// The end of the archive.
    pub(super) fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<()> {
        let count = self.read(self.at, block)?;
        ensure!(count == BLOCK, "offset {}: truncated", self.at);
        self.at += BLOCK_BYTES;
        Ok(())
    }

    /// Passes over `size` bytes of data and their padding. Returns the offsets of the first
    /// byte and of the end of the data.
    ///
    /// # Errors
    /// An archive that ends before.
    pub(super) fn data(&mut self, size: u64) -> Result<(u64, u64)> {
        let start = self.at;
        let limit = match self.end {
            ArchiveEnd::At(limit) => limit,
            // A limit that no device reaches; it keeps the arithmetic from overflowing.
            ArchiveEnd::AtZeros => u64::MAX >> 1,
        };
        let end = start.checked_add(size).filter(|&end| end <= limit);
        let end = end.with_context(|| format!("offset {start}: truncated"))?;
        // The padding of the last member may be missing.
        self.at = end.next_multiple_of(BLOCK_BYTES).min(limit);
        Ok((start, end))
    }

    /// Whether `size` bytes of data follow a member that needs none, such as a link. Some
    /// writers state a size there, but write no data. `writes_data` means that the writer of
    /// this member would write the data.
    pub(super) fn has_data(&mut self, size: u64, writes_data: bool) -> Result<bool> {
        if size == 0 || self.reading == Reading::OfLayer {
            return Ok(false);
        }
        let over =
            self.at.checked_add(size).and_then(|at| at.checked_next_multiple_of(BLOCK_BYTES));
        let over = over.map_or(Ok(BlockKind::Missing), |at| self.look(at))?;
        let here = self.look(self.at)?;
        Ok(follows(here, over, writes_data))
    }

    fn look(&mut self, at: u64) -> Result<BlockKind> {
        let mut block = [0; BLOCK];
        Ok(match self.read(at, &mut block)? {
            0 => BlockKind::Missing,
            _ if is_zero(&block) => BlockKind::Zeros,
            _ if Header::parse(&block).is_some() => BlockKind::Header,
            _ => BlockKind::Other,
        })
    }

    /// Reads `size` bytes at `offset`.
    ///
    /// # Errors
    /// A size of more than `limit`; an archive that ends before.
    pub(super) fn bytes(&mut self, offset: u64, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit.min(WINDOW as u64) {
            return bytes_at(self.archive, offset, size, limit);
        }
        let size = usize::try_from(size)?;
        let bytes = self.ahead(offset, size)?;
        ensure!(bytes.len() == size, "truncated");
        Ok(bytes.to_vec())
    }

    /// Reads a block, or the rest of the archive, and fills the rest of `block` with zeros.
    /// Returns the number of bytes read.
    fn read(&mut self, at: u64, block: &mut [u8; BLOCK]) -> Result<usize> {
        let bytes = self.ahead(at, BLOCK).with_context(|| format!("read at {at}"))?;
        block[..bytes.len()].copy_from_slice(bytes);
        block[bytes.len()..].fill(0);
        Ok(bytes.len())
    }

    /// The `size` bytes at `at`, at most [`WINDOW`], or fewer at the end of the archive.
    fn ahead(&mut self, at: u64, size: usize) -> Result<&[u8]> {
        let start = at.checked_sub(self.window_at).and_then(|start| usize::try_from(start).ok());
        let known = start.and_then(|start| Some(start..start.checked_add(size)?));
        let range = match known.filter(|range| range.end <= self.window.len()) {
            Some(range) => range,
            None => {
                self.window.clear();
                self.window_at = at;
                let input = At { file: self.archive, offset: at };
                input.take(WINDOW as u64).read_to_end(&mut self.window)?;
                0..size.min(self.window.len())
            }
        };
        Ok(&self.window[range])
    }
}

/// Whether data follows a member that states a size, but needs no data. `here` is the block
/// after its header, `over` the block that would follow its data.
fn follows(here: BlockKind, over: BlockKind, writes_data: bool) -> bool {
    match here {
        BlockKind::Other => true,
        BlockKind::Missing => false,
        BlockKind::Zeros if over == BlockKind::Header => true,
        // The data may consist of zeros, or may itself be an archive.
        BlockKind::Header | BlockKind::Zeros => writes_data && over != BlockKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_distinguished_from_the_next_member() {
        use BlockKind::{Header, Missing, Other, Zeros};
        for (name, here, over, of_ustar, of_pax) in [
            ("text", Other, Header, true, true),
            ("text at the end", Other, Missing, true, true),
            ("no data", Header, Other, false, false),
            ("an archive, or no data", Header, Header, false, true),
            ("nothing", Missing, Missing, false, false),
            ("zeros", Zeros, Header, true, true),
            ("the last member", Zeros, Missing, false, true),
            ("the last member, then rubbish", Zeros, Other, false, false),
        ] {
            assert_eq!(follows(here, over, false), of_ustar, "{name}");
            assert_eq!(follows(here, over, true), of_pax, "{name}");
        }
    }
}
