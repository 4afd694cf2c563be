//! Journal: its size and its superblock.
//!
//! Format: kernel doc filesystems/ext4/journal.rst, `struct journal_superblock_s` in
//! `include/linux/jbd2.h`, big endian. An empty journal is a superblock and any number of
//! blocks that nobody reads:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0x00 | 4 | `h_magic` |
//! | 0x04 | 4 | `h_blocktype` |
//! | 0x0c | 4 | `s_blocksize` |
//! | 0x10 | 4 | `s_maxlen`: blocks of the journal |
//! | 0x14 | 4 | `s_first`: first block of the log |
//! | 0x18 | 4 | `s_sequence`: first transaction |
//! | 0x1c | 4 | `s_start`: block where the log starts, 0 if it is empty |
//! | 0x30 | 16 | `s_uuid` |
//! | 0x40 | 4 | `s_nr_users` |

use crate::ext4::layout::bytes::{BLOCK_BITS, Ext4Block, ZEROS, put};
use crate::ext4::options::Ext4Journal;

/// Sizes of the journal, as mke2fs(8) chooses them. A file system with fewer blocks than the
/// first number has a journal with the second number of blocks.
const SIZES: &[(u64, u32)] = &[
    (2048, 0),
    (32_768, 1024),
    (256 << 10, 4096),
    (512 << 10, 8192),
    (4096 << 10, 16_384),
    (8192 << 10, 32_768),
    (16_384 << 10, 65_536),
    (32_768 << 10, 131_072),
    (u64::MAX, 262_144),
];

/// Number of blocks of the journal in a file system of `blocks` blocks.
pub(super) fn blocks(journal: Ext4Journal, blocks: u64) -> u32 {
    match journal {
        Ext4Journal::BySize => {
            SIZES.iter().find(|(below, _)| blocks < *below).map_or(0, |(_, size)| *size)
        }
        Ext4Journal::Absent => 0,
    }
}

/// Encodes the superblock, which is the first block of a journal of `blocks` blocks.
pub(super) fn superblock(blocks: u32, uuid: [u8; 16]) -> Ext4Block {
    /// Magic number of a block of the journal (`JBD2_MAGIC_NUMBER`).
    const MAGIC: u32 = 0xc03b_3998;
    /// Type of the block: superblock (`JBD2_SUPERBLOCK_V2`).
    const SUPERBLOCK_V2: u32 = 4;
    let mut block = ZEROS;
    let fields = [
        (0x00, MAGIC),
        (0x04, SUPERBLOCK_V2),
        (0x0c, 1 << BLOCK_BITS),
        (0x10, blocks),
        (0x14, 1),
        (0x18, 1),
    ];
    for (at, value) in fields.into_iter().chain([(0x40, 1)]) {
        put(&mut block, at, value.to_be_bytes());
    }
    put(&mut block, 0x30, uuid);
    block
}
