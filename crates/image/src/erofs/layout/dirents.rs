//! Directory blocks of EROFS. Names are in byte order, and each block can be read on its
//! own.
//!
//! Format: kernel doc filesystems/erofs.rst, "Directories", and `struct erofs_dirent` in
//! `fs/erofs/erofs_fs.h`, little endian. A block starts with one record of 12 bytes for
//! each name:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 8 | `nid` |
//! | 8 | 2 | `nameoff`: offset of the name in the block |
//! | 10 | 1 | `file_type` |
//! | 11 | 1 | reserved |
//!
//! The names follow without gaps, so the offset of the first name tells the number of
//! records. The last name of a block ends at a NUL or at the end of the directory. `.` and
//! `..` are stored and sorted like all other names.

use anyhow::{Result, ensure};

use super::fields::{bytes_at, u16_at};
use super::units::{BLOCK, BLOCK_BYTES};
use crate::tree::{Id, Kind};

/// Bytes of a record (`struct erofs_dirent`).
const RECORD: usize = 12;

/// Name in a directory, and the node that it names.
pub(in crate::erofs) type NamedNode<'a> = (&'a [u8], Id);

/// Splits the sorted `names` into one slice for each block.
pub(in crate::erofs) fn blocks<'a, 'n>(
    mut names: &'a [NamedNode<'n>],
) -> impl Iterator<Item = &'a [NamedNode<'n>]> + use<'a, 'n> {
    std::iter::from_fn(move || {
        let mut room = BLOCK;
        let fits = |(name, _): &&NamedNode| {
            let left = room.checked_sub(RECORD + name.len());
            room = left.unwrap_or(room);
            left.is_some()
        };
        let (block, rest) = names.split_at(names.iter().take_while(fits).count());
        names = rest;
        (!block.is_empty()).then_some(block)
    })
}

/// Number of bytes of a directory with the sorted `names`.
pub(in crate::erofs) fn size(names: &[NamedNode]) -> u64 {
    blocks(names).fold(0, |size, block| {
        let used: usize = block.iter().map(|(name, _)| RECORD + name.len()).sum();
        size.next_multiple_of(BLOCK_BYTES) + used as u64
    })
}

/// Encodes one block, without padding at its end. `look` gives the nid and the type of a
/// node.
pub(in crate::erofs) fn encode(names: &[NamedNode], look: &dyn Fn(Id) -> (u64, u8)) -> Vec<u8> {
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

/// File type of a record (`FT_REG_FILE` and others, `include/linux/fs_types.h`).
pub(in crate::erofs) fn kind(kind: &Kind) -> u8 {
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

/// Decodes one block of a directory into its names and their nids.
///
/// # Errors
/// A record or a name reaches beyond the block.
pub(in crate::erofs) fn decode(block: &[u8]) -> Result<Vec<(&[u8], u64)>> {
    let start = |index: usize| usize::from(u16_at(block, index * RECORD + 8));
    let first = start(0);
    let is_sound = first >= RECORD && first.is_multiple_of(RECORD) && first <= block.len();
    ensure!(is_sound, "a directory block starts with a wrong offset");
    let count = first / RECORD;
    let mut names = Vec::with_capacity(count);
    for index in 0..count {
        let end = if index + 1 < count { start(index + 1) } else { block.len() };
        let name = block.get(start(index)..end);
        ensure!(name.is_some(), "name {index} of a directory block reaches beyond the block");
        let mut name = name.unwrap_or_default();
        if index + 1 == count {
            name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        }
        names.push((name, u64::from_le_bytes(bytes_at(block, index * RECORD))));
    }
    Ok(names)
}
