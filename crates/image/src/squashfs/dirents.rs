//! Names in directories.
//!
//! Format: names in byte order, in runs of 1 to 256 whose inodes begin in the same
//! metadata block. A run is 0 its names - 1, 4 that block, 8 a number; then for
//! each name 0 offset of the inode in the block (u16), 2 its number less that of
//! the run (i16), 4 its basic type (u16), 6 length - 1 (u16), name.

use anyhow::{Context, Result, ensure};

use super::inode::Index;
use super::layout::Fields;
use super::metadata::{Position, Writer};

/// Most names in a run (`SQUASHFS_DIR_COUNT`).
const RUN_MAX: u32 = 256;
/// Bytes of a run before its names.
const HEADER: u32 = 12;
/// Bytes of a name beside itself.
const ENTRY: u32 = 8;

/// Where an inode is, and its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub at: Position,
    pub number: u32,
}

/// A name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    /// Basic type of its inode.
    pub kind: u16,
    pub place: Place,
}

/// Names that were written.
#[derive(Debug)]
pub(super) struct Listing {
    pub at: Position,
    pub size: u32,
    /// The first name of a run in each metadata block but the first.
    pub index: Vec<Index>,
}

/// Writes `entries`, in byte order, to `out`.
///
/// # Errors
/// Names of more than 4 GiB.
pub(super) fn write(entries: &[Entry], out: &mut Writer) -> Result<Listing> {
    let at = out.position()?;
    let mut listing = Listing { at, size: 0, index: Vec::new() };
    let (mut rest, mut block) = (entries, at.block);
    while let Some(first) = rest.first() {
        let here = out.position()?.block;
        if here != block && listing.index.len() < usize::from(u16::MAX) {
            block = here;
            listing.index.push(Index { before: listing.size, block, name: first.name.into() });
        }
        let is_in_run = |entry: &&Entry| {
            entry.place.at.block == first.place.at.block && distance(entry, first).is_ok()
        };
        let count = rest.iter().take(RUN_MAX as usize).take_while(is_in_run).count();
        let (run, left) = rest.split_at(count);
        let bytes = encode(run, first)?;
        let size = u32::try_from(bytes.len()).ok();
        let size = size.and_then(|size| listing.size.checked_add(size));
        listing.size = size.context("names of more than 4 GiB")?;
        out.write(&bytes)?;
        rest = left;
    }
    Ok(listing)
}

fn encode(run: &[Entry], first: &Entry) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let last = u32::try_from(run.len())?.saturating_sub(1);
    for number in [last, first.place.at.block, first.place.number] {
        out.extend(number.to_le_bytes());
    }
    for entry in run {
        out.extend(entry.place.at.offset.to_le_bytes());
        out.extend(distance(entry, first)?.to_le_bytes());
        out.extend(entry.kind.to_le_bytes());
        out.extend(u16::try_from(entry.name.len())?.saturating_sub(1).to_le_bytes());
        out.extend_from_slice(entry.name);
    }
    Ok(out)
}

/// From the number of `first`.
fn distance(entry: &Entry, first: &Entry) -> Result<i16> {
    Ok(i16::try_from(i64::from(entry.place.number) - i64::from(first.place.number))?)
}

/// Reads the names of a directory one by one.
pub(super) struct Names<F> {
    fields: F,
    /// Bytes of the directory.
    left: u32,
    /// Names of the run.
    run: u32,
    /// Metadata block of their inodes.
    block: u32,
}

impl<F: Fields> Names<F> {
    pub(super) fn new(fields: F, size: u32) -> Self {
        Self { fields, left: size, run: 0, block: 0 }
    }

    /// The next name, and where its inode is.
    ///
    /// # Errors
    /// What is damaged.
    pub(super) fn next(&mut self) -> Result<Option<(Vec<u8>, Position)>> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            self.take(HEADER)?;
            let last = self.fields.u32()?;
            ensure!(last < RUN_MAX, "a run of more than 256 names");
            self.run = last + 1;
            self.block = self.fields.u32()?;
            self.fields.u32()?;
        }
        self.run -= 1;
        self.take(ENTRY)?;
        let offset = self.fields.u16()?;
        // Number and type are those of the inode.
        self.fields.u32()?;
        let length = u32::from(self.fields.u16()?) + 1;
        self.take(length)?;
        let mut name = vec![0; length as usize];
        self.fields.fill(&mut name)?;
        Ok(Some((name, Position { block: self.block, offset })))
    }

    fn take(&mut self, size: u32) -> Result<()> {
        self.left = self.left.checked_sub(size).context("a name ends behind its directory")?;
        Ok(())
    }
}
