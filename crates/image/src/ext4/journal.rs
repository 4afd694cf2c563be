//! The journal: how large it is, and its own superblock.
//!
//! Format: kernel doc filesystems/ext4/journal.rst; big-endian. An empty journal
//! is its superblock and blocks that nobody reads:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0x00 | 4 | magic |
//! | 0x04 | 4 | type: 4, superblock |
//! | 0x0c | 4 | bytes of a block |
//! | 0x10 | 4 | blocks |
//! | 0x14 | 4 | first block of the log |
//! | 0x18 | 4 | first transaction |
//! | 0x1c | 4 | where the log starts; 0: it is empty |
//! | 0x30 | 16 | UUID |
//! | 0x40 | 4 | users |

use super::bytes::{BLOCK_BITS, Block, ZEROS, put};

/// Blocks of the file system below so many, and of its journal: those of mke2fs(8).
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

/// Blocks of the journal of a file system of `blocks` blocks.
pub(super) fn blocks(blocks: u64) -> u32 {
    SIZES.iter().find(|(below, _)| blocks < *below).map_or(0, |(_, size)| *size)
}

/// The first block of a journal of `blocks` blocks.
pub(super) fn superblock(blocks: u32, uuid: [u8; 16]) -> Block {
    const MAGIC: u32 = 0xc03b_3998;
    let mut block = ZEROS;
    let fields =
        [(0x00, MAGIC), (0x04, 4), (0x0c, 1 << BLOCK_BITS), (0x10, blocks), (0x14, 1), (0x18, 1)];
    for (at, value) in fields.into_iter().chain([(0x40, 1)]) {
        put(&mut block, at, value.to_be_bytes());
    }
    put(&mut block, 0x30, uuid);
    block
}
