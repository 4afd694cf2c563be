//! Two searches for earlier occurrences of the same bytes: a quick one and a thorough one.
//!
//! Format: see the module `lz4`. Neither search returns a match that the format forbids.

use super::format::{DISTANCE_MAX, MATCH_MIN};

/// Bits of a hash of [`Newest`]. Its table of 32 KiB fits into the first-level cache.
const NEWEST_BITS: u32 = 13;
/// Bits of a hash of [`Chains`].
const CHAINS_BITS: u32 = 15;
/// Base 2 logarithm of the failed look-ups after which [`Newest`] skips one more byte at
/// each step.
const PATIENCE: u32 = 6;

/// Bytes of a segment that occurred earlier in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::erofs) struct Match {
    /// Position where the match starts.
    pub at: usize,
    /// Position of the earlier occurrence.
    pub from: usize,
    /// Length in bytes, at least [`MATCH_MIN`].
    pub length: usize,
}

/// Part of a segment in which matches may lie.
#[derive(Clone, Copy, Debug)]
pub(in crate::erofs) struct Limits {
    /// First position that a match may refer to.
    pub start: usize,
    /// Position before which a match must start. It is at least eight bytes before the
    /// end of the segment.
    pub search_end: usize,
    /// Position at which a match must end at the latest.
    pub match_end: usize,
}

/// Search for matches in one segment.
pub(in crate::erofs) trait Search {
    /// Finds a match that starts at `at`, or a few bytes later if that match is longer.
    fn find(&mut self, segment: &[u8], limits: Limits, at: usize) -> Option<Match>;

    /// Number of bytes to move on after `misses` positions in a row without a match.
    fn stride(&self, misses: usize) -> usize;

    /// Tells the search that a match has ended at `at` and that it goes on from there.
    fn passed(&mut self, segment: &[u8], at: usize);
}

/// Quick search: it takes the first match and remembers one position for each hash.
#[derive(Debug)]
pub(in crate::erofs) struct Newest {
    /// Last position of bytes with each hash.
    seen: Vec<u32>,
}

impl Newest {
    pub(in crate::erofs) fn new() -> Self {
        Self { seen: vec![0; 1 << NEWEST_BITS] }
    }

    /// Notes `at` as the last position of its bytes, and returns the position before.
    fn swap(&mut self, segment: &[u8], at: usize) -> usize {
        /// Multiplier that mixes five bytes into a hash (`LZ4_hash5`).
        const MULTIPLIER: u64 = 889_523_592_379;
        let bytes = segment.get(at..).and_then(<[u8]>::first_chunk::<8>);
        let value = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hash = (value << 24).wrapping_mul(MULTIPLIER) >> (u64::BITS - NEWEST_BITS);
        // A hash has NEWEST_BITS bits, a position in a segment about 20.
        #[allow(clippy::cast_possible_truncation)]
        let (hash, position) = (hash as usize & ((1 << NEWEST_BITS) - 1), at as u32);
        std::mem::replace(&mut self.seen[hash], position) as usize
    }
}

impl Search for Newest {
    fn find(&mut self, segment: &[u8], limits: Limits, at: usize) -> Option<Match> {
        let from = self.swap(segment, at);
        let is_match = from >= limits.start
            && from < at
            && at - from <= DISTANCE_MAX
            && segment[from..from + MATCH_MIN] == segment[at..at + MATCH_MIN];
        is_match.then(|| {
            let length = common(&segment[from..], &segment[at..limits.match_end]);
            Match { at, from, length }
        })
    }

    fn stride(&self, misses: usize) -> usize {
        ((1 << PATIENCE) + misses) >> PATIENCE
    }

    fn passed(&mut self, segment: &[u8], at: usize) {
        self.swap(segment, at - 2);
    }
}

/// Thorough search: it compares many earlier positions, and prefers a longer match that
/// starts one byte later.
#[derive(Debug)]
pub(in crate::erofs) struct Chains {
    /// For each hash, 1 plus the last position of bytes with that hash; 0 if none is known.
    newest: Vec<u32>,
    /// For each position, the distance back to the previous position with the same hash; 0
    /// if that is out of reach.
    back: Vec<u16>,
    /// Position up to which both tables know the segment.
    noted: usize,
    /// Number of earlier positions to compare.
    depth: usize,
}

impl Chains {
    /// Search for a segment of `size` bytes. Level 1 compares one earlier position, and
    /// each further level twice as many.
    pub(in crate::erofs) fn new(level: u32, size: usize) -> Self {
        let (newest, back) = (vec![0; 1 << CHAINS_BITS], vec![0; size]);
        Self { newest, back, noted: 0, depth: 1 << level.saturating_sub(1) }
    }

    fn hash(segment: &[u8], at: usize) -> usize {
        /// Multiplier that mixes four bytes into a hash (`LZ4_hash4`).
        const MULTIPLIER: u32 = 2_654_435_761;
        let bytes = segment.get(at..).and_then(<[u8]>::first_chunk::<MATCH_MIN>);
        let value = bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        (value.wrapping_mul(MULTIPLIER) >> (u32::BITS - CHAINS_BITS)) as usize
    }

    /// Enters all positions before `end` into the tables.
    fn note(&mut self, segment: &[u8], end: usize) {
        for at in self.noted..end {
            let newest = &mut self.newest[Self::hash(segment, at)];
            let now = u32::try_from(at + 1).unwrap_or(0);
            self.back[at] = match std::mem::replace(newest, now) {
                0 => 0,
                before => u16::try_from(now - before).unwrap_or(0),
            };
        }
        self.noted = self.noted.max(end);
    }

    fn longest(&mut self, segment: &[u8], limits: Limits, at: usize) -> Option<Match> {
        self.note(segment, at);
        let mut best = Match { at, from: at, length: MATCH_MIN - 1 };
        let mut from = (self.newest[Self::hash(segment, at)] as usize).checked_sub(1)?;
        for _ in 0..self.depth {
            if from < limits.start || at.saturating_sub(from) > DISTANCE_MAX {
                break;
            }
            // The tables may know `at` and later positions from an earlier block.
            if from < at && segment[from + best.length] == segment[at + best.length] {
                let length = common(&segment[from..], &segment[at..limits.match_end]);
                if length > best.length {
                    best = Match { at, from, length };
                }
                if at + length >= limits.match_end {
                    break;
                }
            }
            match self.back[from] {
                0 => break,
                distance => from -= usize::from(distance),
            }
        }
        (best.length >= MATCH_MIN).then_some(best)
    }
}

impl Search for Chains {
    fn find(&mut self, segment: &[u8], limits: Limits, at: usize) -> Option<Match> {
        let mut best = self.longest(segment, limits, at)?;
        while best.at + 1 < limits.search_end && best.at + best.length < limits.match_end {
            match self.longest(segment, limits, best.at + 1) {
                Some(next) if next.length > best.length => best = next,
                _ => break,
            }
        }
        Some(best)
    }

    fn stride(&self, _: usize) -> usize {
        1
    }

    fn passed(&mut self, _: &[u8], _: usize) {}
}

/// Length of the common start of two slices.
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
