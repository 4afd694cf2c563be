//! LZ4 blocks that fill a given space: as much input as fits, not a byte more.
//!
//! Format: lz4_Block_format.md of LZ4. A block is a list of sequences: a token
//! (upper half: number of literals; lower: length of the match - 4; 15 is
//! continued in bytes of 255 and one below), the literals, the distance back to
//! the match (u16, little endian). The last sequence has literals only, at least
//! [`LAST_LITERALS`] of them; the last match starts at least
//! [`MATCH_TO_END`] bytes before the end.
//!
//! The compressor is our own, for crates compress a given input into any space,
//! and because images must not change with the version of a crate. It is greedy,
//! with one candidate for each hash.

use super::segment::SEGMENT;

/// Literals that end a block.
const LAST_LITERALS: usize = 5;
/// Bytes from the start of the last match to the end of the block.
const MATCH_TO_END: usize = 12;
/// Shortest match.
pub(super) const MATCH_MIN: usize = 4;
/// Farthest match.
const DISTANCE_MAX: usize = 65535;
/// From this on a length in a token is continued.
pub(super) const NIBBLE: usize = 15;
/// Bits of a hash: the table of 32 KiB stays in the fastest cache.
const HASH_BITS: u32 = 13;
/// Failed look-ups after which the search goes a byte faster, as power of 2.
const PATIENCE: u32 = 6;
/// What the last sequence may take after a match of [`MATCH_MIN`].
const RESERVE: usize = 1 + MATCH_TO_END - MATCH_MIN;

/// Compresses parts of one segment after another.
#[derive(Debug)]
pub(super) struct Filler {
    /// By hash, where in the segment such bytes were seen last.
    seen: Vec<u32>,
}

/// What became of a part of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// Bytes of input.
    pub taken: usize,
    /// Bytes of output.
    pub made: usize,
}

impl Filler {
    pub(super) fn new() -> Self {
        Self { seen: vec![0; 1 << HASH_BITS] }
    }

    /// Compresses what of `segment` from `start` on fits into `out`, on its own.
    /// A segment is worked on from its start to its end.
    pub(super) fn fill(&mut self, segment: &[u8], start: usize, out: &mut [u8]) -> Packed {
        debug_assert!(segment.len() <= SEGMENT);
        let mut block = Block { out, made: 0 };
        let search_end = segment.len().saturating_sub(MATCH_TO_END);
        let match_end = segment.len().saturating_sub(LAST_LITERALS);
        let (mut anchor, mut at, mut misses) = (start, start, 1_usize << PATIENCE);
        while at < search_end {
            let found = self.swap(segment, at);
            let is_match = found >= start
                && found < at
                && at - found <= DISTANCE_MAX
                && segment[found..found + MATCH_MIN] == segment[at..at + MATCH_MIN];
            if !is_match {
                if at - anchor > block.room() {
                    break;
                }
                at += misses >> PATIENCE;
                misses += 1;
                continue;
            }
            let distance = at - found;
            while at > anchor
                && at - distance > start
                && segment[at - 1] == segment[at - distance - 1]
            {
                at -= 1;
            }
            let length = common(&segment[at - distance..], &segment[at..match_end]);
            let Some(length) = block.sequence(&segment[anchor..at], distance, length) else {
                break;
            };
            at += length;
            anchor = at;
            misses = 1 << PATIENCE;
            if at < search_end {
                self.swap(segment, at - 2);
            }
        }
        let literals = block.last(&segment[anchor..]);
        Packed { taken: anchor + literals - start, made: block.made }
    }

    /// Where the bytes at `at` were seen last; now they were seen there.
    fn swap(&mut self, segment: &[u8], at: usize) -> usize {
        /// Spreads five bytes.
        const MULTIPLIER: u64 = 889_523_592_379;
        let bytes = segment.get(at..).and_then(<[u8]>::first_chunk::<8>);
        let value = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hash = (value << 24).wrapping_mul(MULTIPLIER) >> (u64::BITS - HASH_BITS);
        // A hash has HASH_BITS, a place in a segment some 20.
        #[allow(clippy::cast_possible_truncation)]
        let (hash, place) = (hash as usize & ((1 << HASH_BITS) - 1), at as u32);
        std::mem::replace(&mut self.seen[hash], place) as usize
    }
}

/// How many bytes both start with.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut length = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let (a, b) = (a.first_chunk::<8>(), b.first_chunk::<8>());
        let difference =
            a.map_or(0, |a| u64::from_le_bytes(*a)) ^ b.map_or(0, |b| u64::from_le_bytes(*b));
        if difference != 0 {
            return length + difference.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + a[length..].iter().zip(&b[length..]).take_while(|(a, b)| a == b).count()
}

/// A block that is being written.
struct Block<'a> {
    out: &'a mut [u8],
    made: usize,
}

impl Block<'_> {
    fn room(&self) -> usize {
        self.out.len() - self.made
    }

    /// Writes a sequence with a match of up to `length` bytes; tells how many of
    /// them fit, and writes nothing where they are too few.
    fn sequence(&mut self, literals: &[u8], distance: usize, length: usize) -> Option<usize> {
        let fixed = 1 + continued(literals.len()) + literals.len() + 2 + RESERVE;
        let room = self.room().checked_sub(fixed)?;
        // The longest with so many continuing bytes.
        let longest = MATCH_MIN + NIBBLE - 1 + room * 255;
        let length = length.min(longest);
        self.literals(literals, length - MATCH_MIN);
        let [low, high, ..] = distance.to_le_bytes();
        self.push(low);
        self.push(high);
        self.length(length - MATCH_MIN);
        Some(length)
    }

    /// Writes the sequence that ends the block, with as many of `literals` as
    /// fit; tells how many.
    fn last(&mut self, literals: &[u8]) -> usize {
        let Some(room) = self.room().checked_sub(1) else { return 0 };
        let mut count = literals.len().min(room);
        while count + continued(count) > room {
            count -= 1;
        }
        self.literals(&literals[..count], 0);
        count
    }

    fn literals(&mut self, literals: &[u8], match_length: usize) {
        let token = literals.len().min(NIBBLE) << 4 | match_length.min(NIBBLE);
        self.push(token.to_le_bytes()[0]);
        self.length(literals.len());
        self.out[self.made..self.made + literals.len()].copy_from_slice(literals);
        self.made += literals.len();
    }

    /// Continues a length of which the token has the first part.
    fn length(&mut self, length: usize) {
        let Some(mut rest) = length.checked_sub(NIBBLE) else { return };
        while rest >= 255 {
            self.push(255);
            rest -= 255;
        }
        self.push(rest.to_le_bytes()[0]);
    }

    fn push(&mut self, byte: u8) {
        self.out[self.made] = byte;
        self.made += 1;
    }
}

/// Bytes that continue a length.
fn continued(length: usize) -> usize {
    length.checked_sub(NIBBLE).map_or(0, |rest| rest / 255 + 1)
}

#[cfg(test)]
mod tests {
    use super::super::unlz4::{read_length, unpack};
    use super::*;
    use proptest::prelude::*;

    /// Packs `input` into blocks of `space` bytes and checks each of them.
    fn check(input: &[u8], space: usize) -> usize {
        let (mut filler, mut at, mut count) = (Filler::new(), 0, 0);
        while at < input.len() {
            let mut out = vec![0; space];
            let packed = filler.fill(input, at, &mut out);
            assert!(packed.taken > 0 && packed.made <= space, "{packed:?}");
            let mut again = vec![0; packed.taken];
            let size = lz4_flex::block::decompress_into(&out[..packed.made], &mut again).unwrap();
            assert_eq!((size, &again[..]), (packed.taken, &input[at..at + packed.taken]));
            for size in [packed.taken, packed.taken / 2] {
                let mut ours = vec![0; size];
                unpack(&out, &mut ours).unwrap();
                assert!(ours == input[at..at + size]);
            }
            check_end(&out[..packed.made], packed.taken);
            at += packed.taken;
            count += 1;
        }
        count
    }

    /// The rules for the end of a block, by which decoders are allowed to copy
    /// more than they need.
    fn check_end(block: &[u8], size: usize) {
        let (mut at, mut made, mut last_match) = (0, 0, None);
        loop {
            let token = block[at];
            at += 1;
            let literals = read_length(block, &mut at, token >> 4).unwrap();
            at += literals;
            made += literals;
            if at == block.len() {
                assert!(last_match.is_none() || literals >= LAST_LITERALS);
                assert!(last_match.is_none_or(|start| size - start >= MATCH_TO_END));
                return;
            }
            last_match = Some(made);
            at += 2;
            made += MATCH_MIN + read_length(block, &mut at, token & 15).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn blocks_are_valid_and_fit(
            parts in prop::collection::vec((any::<u8>(), 1_u8..4, 1_usize..3000), 1..40),
            space in prop::sample::select(vec![64_usize, 100, 4096, 8192]),
        ) {
            let mut state = 1_u32;
            let input: Vec<u8> = parts.iter().flat_map(|&(seed, spread, length)| {
                (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    seed.wrapping_add((state >> 24).to_le_bytes()[0] >> (8 - spread))
                }).collect::<Vec<_>>()
            }).collect();
            check(&input, space);
        }
    }

    #[test]
    fn a_block_takes_as_much_as_fits() {
        assert_eq!(check(&vec![7; SEGMENT], 4096), 2);
        assert_eq!(check(&[7; 13], 4096), 1);
        let text = "the quick brown fox jumps over the lazy dog; ".repeat(100);
        assert_eq!(check(text.as_bytes(), 4096), 1);
        let noise: Vec<u8> =
            (0..5000_u32).map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[0]).collect();
        let packed = Filler::new().fill(&noise, 0, &mut [0; 4096]);
        assert!(packed.made == 4096 && packed.taken > 4000, "{packed:?}");
    }
}
