//! Directory blocks of ext4: names and their inodes.
//!
//! Format: kernel doc filesystems/ext4/directory.rst, `struct ext4_dir_entry_2` in
//! `fs/ext4/ext4.h`, little endian. The entries fill the whole block. The last 12 bytes are
//! an entry without a name that holds a checksum (`struct ext4_dir_entry_tail`). A
//! directory that we write has an index if it needs more than one block; see
//! `write::htree`.
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | `inode`: 0 if the entry is unused |
//! | 4 | 2 | `rec_len`: bytes to the next entry |
//! | 6 | 1 | `name_len` |
//! | 7 | 1 | `file_type` |
//! | 8 | | `name`, padded to 4 bytes |

use anyhow::{Context, Result};

use super::bytes::{BLOCK, Ext4Block, ZEROS, get16, get32, put16, put32, small};
use crate::disk_parts::crc32c::crc32c;
use crate::tree::Kind;

/// Directory in the root for files that e2fsck(8) finds without a name.
pub(in crate::ext4) const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Bytes of an entry without its name (`struct ext4_dir_entry_2`).
pub(in crate::ext4) const ENTRY: usize = 8;

/// Bytes of the entry with the checksum (`struct ext4_dir_entry_tail`).
const TAIL: usize = 12;

/// Bytes of a block that entries with names can use.
pub(in crate::ext4) const ROOM: usize = BLOCK - TAIL;

/// File type of a directory (`EXT4_FT_DIR`).
pub(in crate::ext4) const DIRECTORY: u8 = 2;

/// Entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(in crate::ext4) struct DirEntry<'a> {
    pub(in crate::ext4) name: &'a [u8],
    pub(in crate::ext4) inode: u32,
    /// File type, see [`kind`].
    pub(in crate::ext4) kind: u8,
}

/// File type of an entry (`EXT4_FT_REG_FILE` and others).
pub(in crate::ext4) fn kind(kind: &Kind) -> u8 {
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

/// Number of bytes of the entry for `name`.
pub(in crate::ext4) fn length(name: &[u8]) -> usize {
    ENTRY + name.len().next_multiple_of(4)
}

/// Entries `.` and `..` of the directory with this inode.
pub(in crate::ext4) fn dots(inode: u32, parent: u32) -> [DirEntry<'static>; 2] {
    let entry = |name, inode| DirEntry { name, inode, kind: DIRECTORY };
    [entry(b".", inode), entry(b"..", parent)]
}

/// Number of bytes of the entries `.` and `..`.
pub(in crate::ext4) const DOTS: usize = 2 * (ENTRY + 4);

/// Stores `entry` at offset `at`; the next entry starts `space` bytes later.
pub(in crate::ext4) fn put_entry(bytes: &mut [u8], at: usize, entry: DirEntry, space: usize) {
    put32(bytes, at, entry.inode);
    put16(bytes, at + 4, small(space));
    bytes[at + 6] = entry.name.len().to_le_bytes()[0];
    bytes[at + 7] = entry.kind;
    bytes[at + ENTRY..][..entry.name.len()].copy_from_slice(entry.name);
}

/// Encodes a block of `entries`, which have at most [`ROOM`] bytes together. `seed` is the
/// start of the checksums of the directory's inode.
pub(in crate::ext4) fn block<'a>(
    entries: impl IntoIterator<Item = DirEntry<'a>>,
    seed: u32,
) -> Ext4Block {
    /// File type of the entry with the checksum (`EXT4_FT_DIR_CSUM`).
    const CHECKSUM: u8 = 0xde;
    let mut bytes = ZEROS;
    // A block without entries has one unused entry.
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

/// Decodes a block and appends its names to `names`, without `.` and `..`.
///
/// # Errors
/// An entry reaches beyond the block or beyond the next entry.
pub(in crate::ext4) fn parse(block: &[u8], names: &mut Vec<(Box<[u8]>, u32)>) -> Result<()> {
    let mut rest = block;
    while rest.len() >= ENTRY {
        let length = match get16(rest, 4) {
            // 65536 bytes do not fit into 16 bits (`ext4_rec_len_from_disk`).
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
