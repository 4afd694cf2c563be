//! LZ4 compressor for a fixed output space: it takes as much input as fits.
//!
//! Format: see the module `lz4`.
//!
//! The compressor is our own for two reasons. The crates compress a given input and need
//! as much space as that takes, while EROFS has a given space. And the bytes of an image
//! must not change with the version of a crate.

use super::format::{CONTINUED, INPUT_MAX, LAST_LITERALS, MATCH_MIN, MATCH_TO_END};
use super::matches::{Limits, Search};

/// Bytes that a sequence must leave free for the last one, in case a match of
/// [`MATCH_MIN`] bytes is followed by the literals at the end.
const RESERVE: usize = 1 + MATCH_TO_END - MATCH_MIN;

/// Result of [`fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::erofs) struct Filled {
    /// Bytes of input that were compressed.
    pub taken: usize,
    /// Bytes of output that were written.
    pub made: usize,
}

/// Compresses `segment` from `start` on into `out`, until `out` is full. The block can be
/// unpacked without the bytes before `start`. The caller passes the same `search` for all
/// blocks of a segment, from its first byte to its last.
pub(in crate::erofs) fn fill(
    search: &mut impl Search,
    segment: &[u8],
    start: usize,
    out: &mut [u8],
) -> Filled {
    debug_assert!(segment.len() <= INPUT_MAX);
    let mut block = Lz4Block { out, made: 0 };
    let limits = Limits {
        start,
        search_end: segment.len().saturating_sub(MATCH_TO_END),
        match_end: segment.len().saturating_sub(LAST_LITERALS),
    };
    let (mut anchor, mut at, mut misses) = (start, start, 0);
    while at < limits.search_end {
        let Some(mut found) = search.find(segment, limits, at) else {
            if at - anchor > block.room() {
                break;
            }
            at += search.stride(misses);
            misses += 1;
            continue;
        };
        while found.at > anchor
            && found.from > start
            && segment[found.at - 1] == segment[found.from - 1]
        {
            found.at -= 1;
            found.from -= 1;
            found.length += 1;
        }
        let literals = &segment[anchor..found.at];
        let Some(length) = block.sequence(literals, found.at - found.from, found.length) else {
            break;
        };
        at = found.at + length;
        anchor = at;
        misses = 0;
        if at < limits.search_end {
            search.passed(segment, at);
        }
    }
    let literals = block.last(&segment[anchor..]);
    Filled { taken: anchor + literals - start, made: block.made }
}

/// LZ4 block that is being written.
struct Lz4Block<'a> {
    out: &'a mut [u8],
    made: usize,
}

impl Lz4Block<'_> {
    fn room(&self) -> usize {
        self.out.len() - self.made
    }

    /// Writes a sequence with a match of up to `length` bytes, and returns how many bytes
    /// of the match it took. Writes nothing and returns `None` if not even the shortest
    /// match fits.
    fn sequence(&mut self, literals: &[u8], distance: usize, length: usize) -> Option<usize> {
        let fixed = 1 + continued(literals.len()) + literals.len() + 2 + RESERVE;
        let room = self.room().checked_sub(fixed)?;
        // Each free byte can continue the length by 255.
        let longest = MATCH_MIN + CONTINUED - 1 + room * 255;
        let length = length.min(longest);
        self.literals(literals, length - MATCH_MIN);
        let [low, high, ..] = distance.to_le_bytes();
        self.push(low);
        self.push(high);
        self.length(length - MATCH_MIN);
        Some(length)
    }

    /// Writes the last sequence of the block with as many of `literals` as fit, and
    /// returns their number.
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
        let token = literals.len().min(CONTINUED) << 4 | match_length.min(CONTINUED);
        self.push(token.to_le_bytes()[0]);
        self.length(literals.len());
        self.out[self.made..self.made + literals.len()].copy_from_slice(literals);
        self.made += literals.len();
    }

    /// Writes the bytes that continue a length, after the token that holds its first part.
    fn length(&mut self, length: usize) {
        let Some(mut rest) = length.checked_sub(CONTINUED) else { return };
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

/// Number of bytes that continue a length after its token.
fn continued(length: usize) -> usize {
    length.checked_sub(CONTINUED).map_or(0, |rest| rest / 255 + 1)
}

#[cfg(test)]
mod tests {
    use super::super::matches::{Chains, Newest};
    use super::super::unpack::{read_length, unpack};
    use super::*;
    use proptest::prelude::*;

    /// Packs `input` into blocks of `space` bytes with both searches, checks each block,
    /// and returns the number of blocks of the quick search. The longer search need not be
    /// better for every input, but it is for the inputs of these tests.
    fn check(input: &[u8], space: usize) -> usize {
        let quick = blocks(&mut Newest::new(), input, space);
        let small = blocks(&mut Chains::new(5, input.len()), input, space);
        assert!(small <= quick, "{small} blocks, not {quick}");
        quick
    }

    fn blocks(search: &mut impl Search, input: &[u8], space: usize) -> usize {
        let (mut at, mut count) = (0, 0);
        while at < input.len() {
            let mut out = vec![0; space];
            let packed = fill(search, input, at, &mut out);
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

    /// Checks the rules for the end of a block. Decoders rely on them when they copy more
    /// bytes than they need.
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
    fn a_block_takes_as_much_input_as_fits() {
        assert_eq!(check(&vec![7; INPUT_MAX], 4096), 2);
        assert_eq!(check(&[7; 13], 4096), 1);
        let text = "the quick brown fox jumps over the lazy dog; ".repeat(100);
        assert_eq!(check(text.as_bytes(), 4096), 1);
        let noise: Vec<u8> =
            (0..5000_u32).map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[0]).collect();
        let packed = fill(&mut Newest::new(), &noise, 0, &mut [0; 4096]);
        assert!(packed.made == 4096 && packed.taken > 4000, "{packed:?}");
    }
}
