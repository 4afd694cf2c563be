//! Where bytes were before: the two searches of [`super::lz4`].

use super::lz4::{DISTANCE_MAX, MATCH_MIN};

/// Bits of a hash of [`Newest`]: the table of 32 KiB stays in the fastest cache.
const NEWEST_BITS: u32 = 13;
/// Bits of a hash of [`Chains`].
const CHAINS_BITS: u32 = 15;
/// Failed look-ups after which [`Newest`] goes a byte faster, as power of 2.
const PATIENCE: u32 = 6;

/// A part of a segment that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Where it starts.
    pub at: usize,
    /// Where it was before.
    pub from: usize,
    /// Bytes: at least [`MATCH_MIN`].
    pub length: usize,
}

/// What of a segment matches may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Nothing before counts.
    pub start: usize,
    /// They start before it, eight bytes or more before the segment's end.
    pub search_end: usize,
    /// They end here at the latest.
    pub match_end: usize,
}

/// A way to find matches.
pub(super) trait Search {
    /// One that starts at `at`, or a little later where that is better.
    fn find(&mut self, segment: &[u8], limits: Limits, at: usize) -> Option<Match>;

    /// How far to go on after so many places in a row without one.
    fn stride(&self, misses: usize) -> usize;

    /// A match has ended at `at`, from where the search goes on.
    fn passed(&mut self, segment: &[u8], at: usize);
}

/// Greedy, with one candidate for each hash.
#[derive(Debug)]
pub(super) struct Newest {
    /// By hash, where in the segment such bytes were seen last.
    seen: Vec<u32>,
}

impl Newest {
    pub(super) fn new() -> Self {
        Self { seen: vec![0; 1 << NEWEST_BITS] }
    }

    /// Where the bytes at `at` were seen last; now they were seen there.
    fn swap(&mut self, segment: &[u8], at: usize) -> usize {
        /// Spreads five bytes.
        const MULTIPLIER: u64 = 889_523_592_379;
        let bytes = segment.get(at..).and_then(<[u8]>::first_chunk::<8>);
        let value = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hash = (value << 24).wrapping_mul(MULTIPLIER) >> (u64::BITS - NEWEST_BITS);
        // A hash has NEWEST_BITS, a place in a segment some 20.
        #[allow(clippy::cast_possible_truncation)]
        let (hash, place) = (hash as usize & ((1 << NEWEST_BITS) - 1), at as u32);
        std::mem::replace(&mut self.seen[hash], place) as usize
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

/// The longest of many candidates, and a byte later where that one is longer.
#[derive(Debug)]
pub(super) struct Chains {
    /// By hash, 1 behind where in the segment such bytes were seen last.
    newest: Vec<u32>,
    /// By place, how far back the bytes of the same hash before it are; 0 where
    /// there are none in reach.
    back: Vec<u16>,
    /// Up to where both know the segment.
    noted: usize,
    /// Candidates that are tried.
    depth: usize,
}

impl Chains {
    /// For a segment of `size` bytes; each level tries twice as many candidates, the
    /// first one of them.
    pub(super) fn new(level: u32, size: usize) -> Self {
        let (newest, back) = (vec![0; 1 << CHAINS_BITS], vec![0; size]);
        Self { newest, back, noted: 0, depth: 1 << level.saturating_sub(1) }
    }

    fn hash(segment: &[u8], at: usize) -> usize {
        /// Spreads four bytes.
        const MULTIPLIER: u32 = 2_654_435_761;
        let bytes = segment.get(at..).and_then(<[u8]>::first_chunk::<MATCH_MIN>);
        let value = bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        (value.wrapping_mul(MULTIPLIER) >> (u32::BITS - CHAINS_BITS)) as usize
    }

    /// Notes all before `end`.
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
            // A place that an earlier block had looked at is not before this one.
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
