//! Directory indexes: they find the block of a name by the hash of the name.
//!
//! Format: kernel doc filesystems/ext4/directory.rst, "Hash Tree Directories", `struct
//! dx_root` and `struct dx_node` in `fs/ext4/namei.c`, little endian. To a reader that
//! ignores the index, the root looks like a block with `.` and `..`, and a node like an
//! empty block. The index follows these entries:
//!
//! | Root | Node | Bytes | Field |
//! |---|---|---|---|
//! | 0x1c | | 1 | `hash_version` |
//! | 0x1d | | 1 | `info_length`: 8 |
//! | 0x1e | | 1 | `indirect_levels`: levels of nodes below the root |
//! | 0x20 | 0x08 | 2+2 | `limit`, `count`: room for entries, number of entries |
//! | 0x24 | 0x0c | 4 | block of the lowest hashes |
//! | 0x28 | 0x10 | 8 each | `hash`, `block`: lowest hash of a block, and the block |
//! | 0xff8 | 0xff8 | 4+4 | `dt_reserved`, `dt_checksum` |
//!
//! Hashes are even. The lowest bit of an entry's hash says that the block before ends with
//! names of the same hash.

use std::ops::Range;

use anyhow::{Result, ensure};

use crate::disk_parts::crc32c::crc32c;
use crate::ext4::layout::bytes::{BLOCK, Ext4Block, ZEROS, get32, low32, put16, put32, small};
use crate::ext4::layout::dirents::{self, DOTS, DirEntry, ROOM};
use crate::ext4::layout::superblock::HALF_MD4;

/// Offset of the entries in the root (`struct dx_root`).
const ROOT_AT: usize = 0x20;

/// Offset of the entries in a node (`struct dx_node`).
const NODE_AT: usize = 0x08;

/// Offset of the checksum's 8 bytes (`struct dx_tail`).
const TAIL_AT: usize = BLOCK - 8;

/// Most entries of the root.
const ROOT_ENTRIES: usize = (TAIL_AT - ROOT_AT) / 8;

/// Most entries of a node.
const NODE_ENTRIES: usize = (TAIL_AT - NODE_AT) / 8;

/// Layout of a directory that is to be written.
#[derive(Debug)]
pub(super) struct DirectoryLayout<'a> {
    /// Entries, sorted by hash if the directory has an index.
    entries: Vec<DirEntry<'a>>,
    /// Hash and entries of each leaf. A directory of one block has no leaves.
    leaves: Vec<(u32, Range<usize>)>,
}

impl<'a> DirectoryLayout<'a> {
    /// Distributes the entries over blocks. `seed` is the start of the file system's hashes.
    ///
    /// # Errors
    /// A directory cannot have so many names.
    pub(super) fn new(entries: Vec<DirEntry<'a>>, seed: [u8; 16]) -> Result<Self> {
        let total: usize = entries.iter().map(|entry| dirents::length(entry.name)).sum();
        if DOTS + total <= ROOM {
            return Ok(Self { entries, leaves: Vec::new() });
        }
        let mut hashed: Vec<_> =
            entries.into_iter().map(|entry| (hash(entry.name, seed), entry)).collect();
        hashed.sort_unstable_by(|a, b| (a.0, a.1.name).cmp(&(b.0, b.1.name)));
        let mut leaves: Vec<(u32, Range<usize>)> = Vec::new();
        let (mut used, mut before) = (BLOCK, None);
        for (index, (hash, entry)) in hashed.iter().enumerate() {
            used += dirents::length(entry.name);
            match leaves.last_mut() {
                Some((_, range)) if used <= ROOM => range.end = index + 1,
                _ => {
                    leaves.push((hash | u32::from(before == Some(*hash)), index..index + 1));
                    used = dirents::length(entry.name);
                }
            }
            before = Some(*hash);
        }
        ensure!(
            leaves.len() <= ROOT_ENTRIES * NODE_ENTRIES,
            "the directory has more names than ext4 allows"
        );
        Ok(Self { entries: hashed.into_iter().map(|(_, entry)| entry).collect(), leaves })
    }

    /// Whether the directory has an index.
    pub(super) fn has_index(&self) -> bool {
        !self.leaves.is_empty()
    }

    /// Number of nodes between the root and the leaves.
    fn nodes(&self) -> usize {
        match self.leaves.len() {
            ..=ROOT_ENTRIES => 0,
            leaves => leaves.div_ceil(NODE_ENTRIES),
        }
    }

    /// Number of blocks of the directory.
    pub(super) fn blocks(&self) -> usize {
        1 + self.nodes() + self.leaves.len()
    }

    /// Passes the blocks of the directory to `emit` in their order. `dots` are the entries `.`
    /// and `..`, and `seed` is the start of the checksums of the directory's inode.
    pub(super) fn write(
        &self,
        dots: [DirEntry<'_>; 2],
        seed: u32,
        emit: &mut dyn FnMut(&Ext4Block) -> Result<()>,
    ) -> Result<()> {
        if !self.has_index() {
            return emit(&dirents::block(
                dots.into_iter().chain(self.entries.iter().copied()),
                seed,
            ));
        }
        let first_leaf = 1 + self.nodes();
        let leaves: Vec<_> =
            self.leaves.iter().zip(first_leaf..).map(|((hash, _), block)| (*hash, block)).collect();
        let nodes: Vec<_> = match self.nodes() {
            0 => Vec::new(),
            _ => leaves.chunks(NODE_ENTRIES).collect(),
        };
        let below: Vec<_> = nodes.iter().zip(1..).map(|(node, block)| (node[0].0, block)).collect();
        emit(&root(dots, if nodes.is_empty() { &leaves } else { &below }, &nodes, seed))?;
        for node in nodes {
            let mut block = ZEROS;
            put16(&mut block, 4, small(BLOCK));
            index(&mut block, NODE_AT, node, seed);
            emit(&block)?;
        }
        for (_, range) in &self.leaves {
            emit(&dirents::block(self.entries[range.clone()].iter().copied(), seed))?;
        }
        Ok(())
    }
}

/// Encodes the root of an index.
fn root(
    dots: [DirEntry; 2],
    entries: &[(u32, usize)],
    nodes: &[&[(u32, usize)]],
    seed: u32,
) -> Ext4Block {
    let mut block = ZEROS;
    let [dot, dot_dot] = dots;
    dirents::put_entry(&mut block, 0, dot, DOTS / 2);
    dirents::put_entry(&mut block, DOTS / 2, dot_dot, BLOCK - DOTS / 2);
    block[0x1c] = HALF_MD4;
    block[0x1d] = 8;
    block[0x1e] = u8::from(!nodes.is_empty());
    index(&mut block, ROOT_AT, entries, seed);
    block
}

/// Stores the entries of a root or node at offset `at`, and its checksum.
fn index(block: &mut Ext4Block, at: usize, entries: &[(u32, usize)], seed: u32) {
    for (at, (hash, child)) in (at..).step_by(8).zip(entries) {
        put32(block, at, *hash);
        put32(block, at + 4, low32(*child as u64));
    }
    // These two numbers replace the first hash, which is the lowest one anyway.
    put16(block, at, small((TAIL_AT - at) / 8));
    put16(block, at + 2, small(entries.len()));
    let checksum = crc32c(seed, &block[..at + entries.len() * 8]);
    let checksum = crc32c(checksum, &[0; 8]);
    put32(block, TAIL_AT + 4, checksum);
}

/// Hash of a name (`ext4fs_dirhash` with `DX_HASH_HALF_MD4_UNSIGNED`): MD4 of RFC 1320,
/// shortened to 8 words in a block and 8 steps in a round.
fn hash(name: &[u8], seed: [u8; 16]) -> u32 {
    /// Value that stands for the end of a directory and is never a hash
    /// (`EXT4_HTREE_EOF_32BIT << 1`).
    const END: u32 = 0xffff_fffe;
    /// Start value of MD4, used if the seed is zero.
    const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut state = match [0, 4, 8, 12].map(|at| get32(&seed, at)) {
        [0, 0, 0, 0] => START,
        seed => seed,
    };
    let mut rest = name;
    while !rest.is_empty() {
        transform(&mut state, &words(rest));
        rest = rest.get(32..).unwrap_or_default();
    }
    match state[1] & !1 {
        END => END - 2,
        hash => hash,
    }
}

/// Next 32 bytes of a name as words, filled up with the length of the rest
/// (`str2hashbuf_unsigned`).
fn words(rest: &[u8]) -> [u32; 8] {
    let fill = u32::from_le_bytes([rest.len().to_le_bytes()[0]; 4]);
    let mut words = [fill; 8];
    for (word, chunk) in words.iter_mut().zip(rest.chunks(4)) {
        *word = chunk.iter().fold(fill, |word, &byte| word << 8 | u32::from(byte));
    }
    words
}

/// Mixes 8 words into the state (`half_md4_transform`).
fn transform(state: &mut [u32; 4], words: &[u32; 8]) {
    type Function = fn(u32, u32, u32) -> u32;
    /// Rounds: function, constant, rotations, and order of the words.
    #[rustfmt::skip]
    const ROUNDS: [(Function, u32, [u32; 4], [usize; 8]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)),                          0,           [3, 7, 11, 19], [0, 1, 2, 3, 4, 5, 6, 7]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z),          0x5a82_7999, [3, 5, 9, 13],  [1, 3, 5, 7, 0, 2, 4, 6]),
        (|x, y, z| x ^ y ^ z,                                  0x6ed9_eba1, [3, 9, 11, 15], [3, 7, 2, 6, 1, 5, 0, 4]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (function, constant, rotations, order) in ROUNDS {
        for (index, rotation) in order.into_iter().zip(rotations.into_iter().cycle()) {
            let sum = a.wrapping_add(function(b, c, d)).wrapping_add(words[index]);
            let new = sum.wrapping_add(constant).rotate_left(rotation);
            (a, b, c, d) = (d, new, b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected hashes are the output of `debugfs -R "dx_hash -h half_md4 -s SEED NAME"`.
    #[test]
    fn hashes_are_those_of_e2fsprogs() {
        let long = "x".repeat(255);
        for (name, seed, expected) in [
            ("a", [0; 16], 0xd5fa_7d7a),
            ("file", [0; 16], 0x019c_cbc2),
            ("file", *b"0123456789abcdef", 0x97ef_a7b4),
            ("a name of 32 bytes, no more, none", [0; 16], 0x8a75_c40a),
            (&long, [0; 16], 0x2aa7_169e),
        ] {
            assert_eq!(hash(name.as_bytes(), seed), expected, "{name}");
        }
    }
}
