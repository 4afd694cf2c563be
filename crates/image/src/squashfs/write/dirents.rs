//! Writer of the names of a directory.
//!
//! Format: see `layout::dirents` and `layout::inode`.

use anyhow::{Context, Result};

use super::metadata::MetadataWriter;
use crate::squashfs::layout::dirents::RUN_MAX;
use crate::squashfs::layout::inode::IndexEntry;
use crate::squashfs::layout::position::Position;

/// Position and number of an inode that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenInode {
    /// Position in the table of inodes.
    pub at: Position,
    /// Number of the inode.
    pub number: u32,
}

/// Name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Basic type of its inode.
    pub kind: u16,
    /// Its inode.
    pub inode: WrittenInode,
}

/// Names of a directory that were written.
#[derive(Debug)]
pub(super) struct WrittenNames {
    /// Position of the first name in the table of names.
    pub at: Position,
    /// Bytes of the names.
    pub size: u32,
    /// Index: the first run in each metadata block but the first.
    pub index: Vec<IndexEntry>,
}

/// Writes `entries`, which are in byte order, to `out`.
///
/// # Errors
/// The names have more than 4 GiB.
pub(super) fn write(entries: &[RunEntry], out: &mut MetadataWriter) -> Result<WrittenNames> {
    let at = out.position()?;
    let mut written = WrittenNames { at, size: 0, index: Vec::new() };
    let (mut rest, mut block) = (entries, at.block);
    while let Some(first) = rest.first() {
        let here = out.position()?.block;
        if here != block && written.index.len() < usize::from(u16::MAX) {
            block = here;
            written.index.push(IndexEntry { before: written.size, block, name: first.name.into() });
        }
        let is_in_run = |entry: &&RunEntry| {
            entry.inode.at.block == first.inode.at.block && distance(entry, first).is_ok()
        };
        let count = rest.iter().take(RUN_MAX as usize).take_while(is_in_run).count();
        let (run, left) = rest.split_at(count);
        let bytes = encode(run, first)?;
        let size = u32::try_from(bytes.len()).ok();
        let size = size.and_then(|size| written.size.checked_add(size));
        written.size = size.context("the directory has more than 4 GiB of names")?;
        out.write(&bytes)?;
        rest = left;
    }
    Ok(written)
}

/// Encodes a run, whose first name is `first`.
fn encode(run: &[RunEntry], first: &RunEntry) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let last = u32::try_from(run.len())?.saturating_sub(1);
    for number in [last, first.inode.at.block, first.inode.number] {
        out.extend(number.to_le_bytes());
    }
    for entry in run {
        out.extend(entry.inode.at.offset.to_le_bytes());
        out.extend(distance(entry, first)?.to_le_bytes());
        out.extend(entry.kind.to_le_bytes());
        out.extend(u16::try_from(entry.name.len())?.saturating_sub(1).to_le_bytes());
        out.extend_from_slice(entry.name);
    }
    Ok(out)
}

/// Difference between the inode numbers of `entry` and `first`.
fn distance(entry: &RunEntry, first: &RunEntry) -> Result<i16> {
    Ok(i16::try_from(i64::from(entry.inode.number) - i64::from(first.inode.number))?)
}
