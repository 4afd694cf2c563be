//! Damages seeds.
//!
//! Most bytes of an image are contents or zeros, where damage has little effect. So most
//! damage falls on other bytes, and often on numbers.

use crate::random::Random;

/// Length of a stretch, in bytes; [`Seed`] lists the stretches with different bytes.
const STRETCH: usize = 32;

/// Longest piece that one step moves, copies or removes, in bytes.
const PIECE_MAX: usize = 600;

/// Largest number of steps of damage in one input.
const STEPS_MAX: usize = 8;

/// Largest size of an input, in bytes. Each step may make it grow.
const INPUT_MAX: usize = 16 << 20;

/// Numbers near the limits of integer types. They are truncated to the field's width.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 511,
    u64::MAX,
];

/// A valid input, from which damaged ones are made.
#[derive(Debug)]
pub(super) struct Seed {
    bytes: Vec<u8>,
    /// Offsets of the stretches that have different bytes.
    used: Vec<usize>,
}

impl Seed {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let stretches = bytes.chunks(STRETCH).enumerate();
        let is_used = |chunk: &[u8]| chunk.iter().any(|byte| *byte != chunk[0]);
        let used = stretches.filter(|(_, chunk)| is_used(chunk));
        let used = used.map(|(at, _)| at * STRETCH).collect();
        Self { bytes, used }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Chooses an offset for damage: in most cases, one in a stretch with different bytes.
    fn place(&self, length: usize, random: &mut Random) -> usize {
        match self.used.is_empty() || random.below(8) == 0 {
            true => random.below(length),
            false => (random.pick(&self.used) + random.below(STRETCH)).min(length),
        }
    }
}

/// Damages one of `seeds`. `words` are pieces of text that have a meaning in the format.
pub(super) fn damaged(seeds: &[Seed], words: &[&str], random: &mut Random) -> Vec<u8> {
    let seed = random.pick(seeds);
    let mut bytes = seed.bytes.clone();
    // Few steps in most cases: readers refuse an input with much damage at once.
    let most = random.below(STEPS_MAX) + 1;
    for _ in 0..=random.below(most) {
        let at = seed.place(bytes.len(), random).min(bytes.len());
        step(&mut bytes, at, seeds, words, random);
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

fn step(bytes: &mut Vec<u8>, at: usize, seeds: &[Seed], words: &[&str], random: &mut Random) {
    let piece = |random: &mut Random, length: usize| {
        let most = if random.below(2) == 0 { 16 } else { PIECE_MAX };
        random.below(most.min(length)) + 1
    };
    let end = |from: usize, size: usize| from.saturating_add(size).min(bytes.len());
    match random.below(if words.is_empty() { 12 } else { 16 }) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 | 3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
        4..=6 => number(bytes, at, random),
        7 => digits(bytes, at, random),
        // The next three remove a piece, double it, or write it over another one.
        8 => {
            let end = end(at, piece(random, PIECE_MAX));
            bytes.drain(at..end);
        }
        9 => {
            let end = end(at, piece(random, PIECE_MAX));
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        10 => {
            let other = random.pick(seeds);
            let from = other.place(other.bytes.len(), random);
            let rest = other.bytes.get(from..).unwrap_or_default();
            let copy = &rest[..piece(random, PIECE_MAX).min(rest.len())];
            let end = end(at, copy.len());
            bytes.splice(at..end, copy.iter().copied());
        }
        11 => match random.below(6) {
            0 => bytes.truncate(at),
            _ => {
                let end = end(at, piece(random, PIECE_MAX));
                let byte = random.byte();
                bytes[at..end].fill(byte);
            }
        },
        step => {
            let word = random.pick(words).bytes();
            let end = if step < 14 { at } else { end(at, word.len()) };
            bytes.splice(at..end, word);
        }
    }
}

/// Writes one of [`NUMBERS`], or a number close to the old one.
fn number(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = *random.pick(&[1, 2, 4, 8]);
    let is_big = random.below(3) == 0;
    // Fields lie at multiples of their width.
    let at = if random.below(4) == 0 { at } else { at - at % width };
    let Some(field) = bytes.get_mut(at..at + width) else { return };
    let mut old = [0; 8];
    old[..width].copy_from_slice(field);
    let new = match random.below(3) {
        0 => u64::from_le_bytes(old).wrapping_add(random.number() % 9).wrapping_sub(4),
        _ => *random.pick(NUMBERS),
    };
    let new = new.to_le_bytes();
    field.copy_from_slice(&new[..width]);
    if is_big {
        field.reverse();
    }
}

/// Overwrites the digits behind `at`: headers of tar and cpio and records of pax contain
/// numbers as text.
fn digits(bytes: &mut [u8], at: usize, random: &mut Random) {
    let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
    let Some(start) = bytes.iter().skip(at).position(is_digit).map(|skipped| at + skipped) else {
        return;
    };
    let digit = *random.pick(b"0179fF");
    let run = bytes[start..].iter_mut().take_while(|byte| byte.is_ascii_hexdigit());
    let most = random.below(12) + 1;
    for byte in run.take(most) {
        *byte = if random.below(3) == 0 { *random.pick(b"01234567") } else { digit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_give_equal_damage() {
        let seeds = [Seed::new((0..=255).collect()), Seed::new(b"00000123 some text".to_vec())];
        let make = |number| damaged(&seeds, &["word"], &mut Random::new(number));
        let inputs: Vec<_> = (0..500).map(make).collect();
        assert_eq!(inputs, (0..500).map(make).collect::<Vec<_>>());
        let same = inputs.iter().filter(|input| seeds.iter().any(|seed| seed.bytes == **input));
        assert!(same.count() < 50);
    }

    #[test]
    fn an_empty_seed_can_be_damaged() {
        for number in 0..500 {
            let _ = damaged(&[Seed::new(Vec::new())], &["x"], &mut Random::new(number));
        }
    }
}
