//! Indexes of directories: which block has the names of which hashes.
//!
//! Format: kernel doc filesystems/ext4/directory.rst, "Hash Tree Directories".
//! The first block looks to old readers like one with `.` and `..` only, a node
//! like one with nothing. Behind that:
//!
//! | Root | Node | Bytes | Field |
//! |---|---|---|---|
//! | 0x1c | | 1 | hash: 1 half MD4 |
//! | 0x1d | | 1 | bytes of what is from 0x18 to the entries: 8 |
//! | 0x1e | | 1 | levels of nodes below the root |
//! | 0x20 | 0x08 | 2+2 | room for entries, entries |
//! | 0x24 | 0x0c | 4 | block of the lowest hashes |
//! | 0x28 | 0x10 | 8 each | lowest hash of a block, and the block |
//! | 0xff8 | 0xff8 | 4+4 | nothing, checksum |
//!
//! A hash is even; an entry's lowest bit says that the block before ends with
//! names of the same hash.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::bytes::{BLOCK, Block, ZEROS, crc32c, get32, low32, put16, put32, small};
use super::dirents::{self, DOTS, Entry, ROOM};

/// Where the entries of the root and of a node start.
const ROOT_AT: usize = 0x20;
const NODE_AT: usize = 0x08;

/// Where the checksum's 8 bytes start.
const TAIL_AT: usize = BLOCK - 8;

/// Entries of the root and of a node.
const ROOT_ENTRIES: usize = (TAIL_AT - ROOT_AT) / 8;
const NODE_ENTRIES: usize = (TAIL_AT - NODE_AT) / 8;

/// A directory to be written.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    /// In the order of their hashes, unless it is one block.
    entries: Vec<Entry<'a>>,
    /// Hash of the first name, and names of each leaf; none where it is one block.
    leaves: Vec<(u32, Range<usize>)>,
}

impl<'a> Directory<'a> {
    /// Lays out these names; `seed` is the file system's for hashes.
    pub(super) fn new(entries: Vec<Entry<'a>>, seed: [u8; 16]) -> Result<Self> {
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
            "more names than a directory can have"
        );
        Ok(Self { entries: hashed.into_iter().map(|(_, entry)| entry).collect(), leaves })
    }

    /// Whether it has an index.
    pub(super) fn has_index(&self) -> bool {
        !self.leaves.is_empty()
    }

    /// Nodes between the root and the leaves.
    fn nodes(&self) -> usize {
        match self.leaves.len() {
            ..=ROOT_ENTRIES => 0,
            leaves => leaves.div_ceil(NODE_ENTRIES),
        }
    }

    /// Blocks of it.
    pub(super) fn blocks(&self) -> usize {
        1 + self.nodes() + self.leaves.len()
    }

    /// Gives its blocks in their order; `seed` is that of its inode.
    pub(super) fn write(
        &self,
        dots: [Entry<'_>; 2],
        seed: u32,
        emit: &mut dyn FnMut(&Block) -> Result<()>,
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

fn root(dots: [Entry; 2], entries: &[(u32, usize)], nodes: &[&[(u32, usize)]], seed: u32) -> Block {
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

/// Stores the entries of a root or node, and its checksum.
fn index(block: &mut Block, at: usize, entries: &[(u32, usize)], seed: u32) {
    for (at, (hash, child)) in (at..).step_by(8).zip(entries) {
        put32(block, at, *hash);
        put32(block, at + 4, low32(*child as u64));
    }
    // In the place of the first hash, which is as low as any.
    put16(block, at, small((TAIL_AT - at) / 8));
    put16(block, at + 2, small(entries.len()));
    let checksum = crc32c(seed, &block[..at + entries.len() * 8]);
    let checksum = crc32c(checksum, &[0; 8]);
    put32(block, TAIL_AT + 4, checksum);
}

const HALF_MD4: u8 = 1;

/// The hash of a name: MD4 (RFC 1320) cut to 8 words a block and 8 steps a round,
/// over unsigned bytes.
fn hash(name: &[u8], seed: [u8; 16]) -> u32 {
    /// What no hash is: it stands for the end of a directory.
    const END: u32 = 0xffff_fffe;
    /// Where MD4 starts; no seed means this.
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

/// The next 32 bytes of a name as words, filled up with its length.
fn words(rest: &[u8]) -> [u32; 8] {
    let fill = u32::from_le_bytes([rest.len().to_le_bytes()[0]; 4]);
    let mut words = [fill; 8];
    for (word, chunk) in words.iter_mut().zip(rest.chunks(4)) {
        *word = chunk.iter().fold(fill, |word, &byte| word << 8 | u32::from(byte));
    }
    words
}

fn transform(state: &mut [u32; 4], words: &[u32; 8]) {
    type Function = fn(u32, u32, u32) -> u32;
    /// Function, constant, rotations, and order of the words.
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

    /// What `debugfs -R "dx_hash -h half_md4 -s SEED NAME"` says.
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
