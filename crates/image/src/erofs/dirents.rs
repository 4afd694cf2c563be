//! Directories: names in byte order, in blocks that each stand for themselves.
//!
//! Format: kernel doc filesystems/erofs.rst, "Directories". A block starts with
//! one record of 12 bytes for each name: 0 nid (u64), 8 where the name starts
//! (u16), 10 type (u8), 11 reserved. The names follow without a gap; the first
//! one's start tells the number of records. The last name of a block ends with
//! the directory or at a NUL. `.` and `..` are names like others.

use anyhow::{Result, ensure};

use super::layout::{BLOCK, BLOCK_BYTES, at, u16_at};
use crate::tree::{Id, Kind};

const RECORD: usize = 12;

/// A name and what it stands for.
pub(super) type Name<'a> = (&'a [u8], Id);

/// Splits the sorted `names` into those of each block.
pub(super) fn blocks<'a, 'n>(
    mut names: &'a [Name<'n>],
) -> impl Iterator<Item = &'a [Name<'n>]> + use<'a, 'n> {
    std::iter::from_fn(move || {
        let mut room = BLOCK;
        let fits = |(name, _): &&Name| {
            let left = room.checked_sub(RECORD + name.len());
            room = left.unwrap_or(room);
            left.is_some()
        };
        let (block, rest) = names.split_at(names.iter().take_while(fits).count());
        names = rest;
        (!block.is_empty()).then_some(block)
    })
}

/// Bytes of the directory with the sorted `names`.
pub(super) fn size(names: &[Name]) -> u64 {
    blocks(names).fold(0, |size, block| {
        let used: usize = block.iter().map(|(name, _)| RECORD + name.len()).sum();
        size.next_multiple_of(BLOCK_BYTES) + used as u64
    })
}

/// The bytes of one block, without padding; `look` gives nid and type.
pub(super) fn encode(names: &[Name], look: &dyn Fn(Id) -> (u64, u8)) -> Vec<u8> {
    let mut records = Vec::with_capacity(BLOCK);
    let mut start = u16::try_from(names.len() * RECORD).unwrap_or(u16::MAX);
    for (name, id) in names {
        let (nid, kind) = look(*id);
        records.extend(nid.to_le_bytes());
        records.extend(start.to_le_bytes());
        records.extend([kind, 0]);
        start += u16::try_from(name.len()).unwrap_or(u16::MAX);
    }
    for (name, _) in names {
        records.extend_from_slice(name);
    }
    records
}

/// Type of a record (`FT_*`, `include/linux/fs_types.h`).
pub(super) fn kind(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::CharDevice(..) => 3,
        Kind::BlockDevice(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// The names in one block of a directory, with their nids.
///
/// # Errors
/// Records or names that reach out of the block.
pub(super) fn decode(block: &[u8]) -> Result<Vec<(&[u8], u64)>> {
    let start = |index: usize| usize::from(u16_at(block, index * RECORD + 8));
    let first = start(0);
    let is_sound = first >= RECORD && first.is_multiple_of(RECORD) && first <= block.len();
    ensure!(is_sound, "the block of names starts with a wrong offset");
    let count = first / RECORD;
    let mut names = Vec::with_capacity(count);
    for index in 0..count {
        let end = if index + 1 < count { start(index + 1) } else { block.len() };
        let name = block.get(start(index)..end);
        ensure!(name.is_some(), "name {index} of a block reaches out of it");
        let mut name = name.unwrap_or_default();
        if index + 1 == count {
            name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        }
        names.push((name, u64::from_le_bytes(at(block, index * RECORD))));
    }
    Ok(names)
}
