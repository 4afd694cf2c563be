//! Directories as blocks: names and their inodes.
//!
//! Format: kernel doc filesystems/ext4/directory.rst. Entries fill a block; the
//! last 12 bytes are one without a name that holds a checksum. A directory of
//! more than one block has an index ([`super::htree`]).
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | inode; 0: nothing |
//! | 4 | 2 | bytes to the next entry |
//! | 6 | 1 | length of the name |
//! | 7 | 1 | type |
//! | 8 | | name, padded to 4 |

use anyhow::{Context, Result};

use super::bytes::{BLOCK, Block, ZEROS, crc32c, get16, get32, put16, put32, small};
use crate::tree::Kind;

/// Bytes of an entry without its name.
pub(super) const ENTRY: usize = 8;

/// Bytes of the checksum's entry.
const TAIL: usize = 12;

/// Bytes of a block for entries.
pub(super) const ROOM: usize = BLOCK - TAIL;

/// Type in an entry of a directory.
pub(super) const DIRECTORY: u8 = 2;

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// [`kind`].
    pub(super) kind: u8,
}

/// The type as an entry has it.
pub(super) fn kind(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => DIRECTORY,
        Kind::CharDevice(..) => 3,
        Kind::BlockDevice(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink(_) => 7,
    }
}

/// Bytes of the entry of a name.
pub(super) fn length(name: &[u8]) -> usize {
    ENTRY + name.len().next_multiple_of(4)
}

/// The two names of every directory.
pub(super) fn dots(inode: u32, parent: u32) -> [Entry<'static>; 2] {
    let entry = |name, inode| Entry { name, inode, kind: DIRECTORY };
    [entry(b".", inode), entry(b"..", parent)]
}

/// Bytes of the entries of [`dots`].
pub(super) const DOTS: usize = 2 * (ENTRY + 4);

/// Stores an entry that has `space` bytes.
pub(super) fn put_entry(bytes: &mut [u8], at: usize, entry: Entry, space: usize) {
    put32(bytes, at, entry.inode);
    put16(bytes, at + 4, small(space));
    bytes[at + 6] = entry.name.len().to_le_bytes()[0];
    bytes[at + 7] = entry.kind;
    bytes[at + ENTRY..][..entry.name.len()].copy_from_slice(entry.name);
}

/// A block of these entries, which are at most [`ROOM`] bytes; `seed` is that of
/// the directory's inode.
pub(super) fn block<'a>(entries: impl IntoIterator<Item = Entry<'a>>, seed: u32) -> Block {
    /// Type of the checksum's entry.
    const CHECKSUM: u8 = 0xde;
    let mut bytes = ZEROS;
    // Without any: one that is free.
    let (mut at, mut last) = (0, 0);
    for entry in entries {
        put_entry(&mut bytes, at, entry, length(entry.name));
        last = at;
        at += length(entry.name);
    }
    put16(&mut bytes, last + 4, small(ROOM - last));
    put16(&mut bytes, ROOM + 4, small(TAIL));
    bytes[ROOM + 7] = CHECKSUM;
    let checksum = crc32c(seed, &bytes[..ROOM]);
    put32(&mut bytes, ROOM + 8, checksum);
    bytes
}

/// Adds the names of a block, but for the two of every directory.
pub(super) fn parse(block: &[u8], names: &mut Vec<(Box<[u8]>, u32)>) -> Result<()> {
    let mut rest = block;
    while rest.len() >= ENTRY {
        let length = match get16(rest, 4) {
            // 64 KiB do not fit into 16 bits.
            0 | u16::MAX if block.len() == 1 << 16 => block.len(),
            length => length.into(),
        };
        let is_whole = length >= ENTRY && length % 4 == 0 && length <= rest.len();
        let name = rest.get(ENTRY..).and_then(|behind| behind.get(..rest[6].into()));
        let name = name.filter(|name| is_whole && ENTRY + name.len() <= length);
        let name = name.context("a directory block is damaged: run e2fsck")?;
        if get32(rest, 0) != 0 && !matches!(name, b"." | b"..") {
            names.push((name.into(), get32(rest, 0)));
        }
        rest = &rest[length..];
    }
    Ok(())
}
