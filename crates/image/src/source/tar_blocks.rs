//! A tar archive as a sequence of blocks: headers of members, and data behind them.
//!
//! Format: POSIX pax(1), "ustar Interchange Format". Blocks of zeroes end an
//! archive; what follows them is never dropped without a note.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use archive::bytes::{At, is_zero};
use archive::newc::after_padding;
use files::notes::Notes;

use crate::ustar::{BLOCK, Header};

/// [`BLOCK`] as an offset.
const BLOCK_BYTES: u64 = BLOCK as u64;

const ANOTHER: &str = "another archive behind the end of the first is read, too, as tar -i does";
const NO_END: &str = "no block of zeroes ends the archive: if it was cut, members are missing";
const NO_MEMBERS: &str = "nothing but zeroes is read as an archive without members";
const REST: &str = "data behind the end of the archive are no archive and are left out";

/// Where an archive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// At the first block of zeroes: behind it a device may have anything.
    AtZeroes,
    /// With its file, which has this many bytes.
    At(u64),
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Header,
    Zeroes,
    Other,
    /// No block: the archive has ended.
    Missing,
}

/// An archive that is being read.
pub(super) struct Blocks<'a> {
    /// The archive.
    pub(super) archive: &'a Arc<File>,
    end: End,
    /// Where the next block is.
    at: u64,
}

impl<'a> Blocks<'a> {
    /// The blocks of `archive`, from its start.
    pub(super) fn new(archive: &'a Arc<File>) -> Result<Self> {
        let metadata = archive.metadata()?;
        let end = match metadata.file_type().is_block_device() {
            true => End::AtZeroes,
            false => End::At(metadata.len()),
        };
        Ok(Self { archive, end, at: 0 })
    }

    /// The next header and its offset; `None` at the end of the archive.
    ///
    /// # Errors
    /// Something else where a header should be.
    pub(super) fn header(&mut self, notes: &mut Notes) -> Result<Option<(Header, u64)>> {
        let mut block = [0; BLOCK];
        let start = self.at;
        // Not every writer ends an archive with zeroes, or fills its last block.
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
        if count == 0 {
            notes.add(NO_END, format!("offset {start}").as_bytes());
        }
        if is_end || self.end == End::AtZeroes {
            return Ok(None);
        }
        let Some(behind) = after_padding(self.archive, start)? else {
            if start == 0 {
                notes.add(NO_MEMBERS, b"offset 0");
            }
            return Ok(None);
        };
        let behind = behind / BLOCK_BYTES * BLOCK_BYTES;
        let count = self.read(behind, &mut block)?;
        let header = Header::parse(&block).filter(|_| count == BLOCK);
        let what = if header.is_some() { ANOTHER } else { REST };
        notes.add(what, format!("offset {behind}").as_bytes());
        self.at = behind + BLOCK_BYTES;
        Ok(header.map(|header| (header, behind)))
    }

    /// The next block, whatever it is.
    ///
    /// # Errors
    /// The end of the archive.
    pub(super) fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<()> {
        let count = self.read(self.at, block)?;
        ensure!(count == BLOCK, "offset {}: truncated", self.at);
        self.at += BLOCK_BYTES;
        Ok(())
    }

    /// Where `size` bytes of data begin and end; goes past them.
    ///
    /// # Errors
    /// The end of the archive.
    pub(super) fn data(&mut self, size: u64) -> Result<(u64, u64)> {
        let start = self.at;
        let limit = match self.end {
            End::At(limit) => limit,
            // A bound for what is calculated: no device has so many bytes.
            End::AtZeroes => u64::MAX >> 1,
        };
        let end = start.checked_add(size).filter(|&end| end <= limit);
        let end = end.with_context(|| format!("offset {start}: truncated"))?;
        // The padding of the last one may be missing.
        self.at = end.next_multiple_of(BLOCK_BYTES).min(limit);
        Ok((start, end))
    }

    /// Whether `size` bytes follow a member that needs none, such as a link: some
    /// writers give a size there, but write no data. `has_records` tells that an
    /// extended header precedes the member, as with writers that do write data.
    pub(super) fn has_data(&self, size: u64, has_records: bool) -> Result<bool> {
        if size == 0 {
            return Ok(false);
        }
        let over =
            self.at.checked_add(size).and_then(|at| at.checked_next_multiple_of(BLOCK_BYTES));
        let over = over.map_or(Ok(Block::Missing), |at| self.look(at))?;
        Ok(follows(self.look(self.at)?, over, has_records))
    }

    fn look(&self, at: u64) -> Result<Block> {
        let mut block = [0; BLOCK];
        Ok(match self.read(at, &mut block)? {
            0 => Block::Missing,
            _ if is_zero(&block) => Block::Zeroes,
            _ if Header::parse(&block).is_some() => Block::Header,
            _ => Block::Other,
        })
    }

    /// Reads a block, or up to the end of the archive; the rest of `block` is zeroes.
    /// Gives how much was read.
    fn read(&self, at: u64, block: &mut [u8; BLOCK]) -> Result<usize> {
        let (mut input, mut count) = (At { file: self.archive, offset: at }, 0);
        while count < BLOCK {
            match input.read(&mut block[count..]).with_context(|| format!("read at {at}"))? {
                0 => break,
                more => count += more,
            }
        }
        block[count..].fill(0);
        Ok(count)
    }
}

/// Whether data follow a member that has a size, but needs none: `here` is the block
/// behind its header, `over` the block that would follow its data.
fn follows(here: Block, over: Block, has_records: bool) -> bool {
    match here {
        Block::Other => true,
        Block::Missing => false,
        Block::Zeroes if over == Block::Header => true,
        // Data may be zeroes, or an archive themselves.
        Block::Header | Block::Zeroes => has_records && over != Block::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_nothing_needs_are_told_from_the_next_member() {
        use Block::{Header, Missing, Other, Zeroes};
        for (name, here, over, of_ustar, of_pax) in [
            ("text", Other, Header, true, true),
            ("text at the end", Other, Missing, true, true),
            ("no data", Header, Other, false, false),
            ("an archive, or no data", Header, Header, false, true),
            ("nothing", Missing, Missing, false, false),
            ("zeroes", Zeroes, Header, true, true),
            ("the last member", Zeroes, Missing, false, true),
            ("the last member, then rubbish", Zeroes, Other, false, false),
        ] {
            assert_eq!(follows(here, over, false), of_ustar, "{name}");
            assert_eq!(follows(here, over, true), of_pax, "{name}");
        }
    }
}
