//! LZ4 blocks, unpacked as far as they are needed.
//!
//! Format: see [`super::lz4`]. Our own, for crates want to know where a block
//! ends: images of old kernels have padding behind it, and use the start only of
//! some.

use anyhow::{Context, Result, ensure};

use super::lz4::{MATCH_MIN, NIBBLE};

/// What is wrong where data ends too early.
const CUT_OFF: &str = "the lz4 data is cut off";

/// Fills `out` with the start of what the block `packed` gives; what follows in
/// `packed` may be padding.
///
/// # Errors
/// Damaged or truncated data.
pub(super) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<()> {
    let (mut from, mut at) = (0, 0);
    while at < out.len() {
        let token = *packed.get(from).context(CUT_OFF)?;
        from += 1;
        let literals = read_length(packed, &mut from, token >> 4).context(CUT_OFF)?;
        let literals = literals.min(out.len() - at);
        let source = packed.get(from..from + literals).context(CUT_OFF)?;
        out[at..at + literals].copy_from_slice(source);
        from += literals;
        at += literals;
        if at == out.len() {
            break;
        }
        let distance = packed.get(from..).and_then(<[u8]>::first_chunk).context(CUT_OFF)?;
        let distance = usize::from(u16::from_le_bytes(*distance));
        ensure!((1..=at).contains(&distance), "the lz4 data is damaged");
        from += 2;
        let length = MATCH_MIN + read_length(packed, &mut from, token & 15).context(CUT_OFF)?;
        let end = out.len().min(at + length);
        // A match that reaches into itself repeats what it has so far.
        while at < end {
            let count = distance.min(end - at);
            out.copy_within(at - distance..at - distance + count, at);
            at += count;
        }
    }
    Ok(())
}

/// A length of which a token has `nibble`, continued at `at`.
pub(super) fn read_length(packed: &[u8], at: &mut usize, nibble: u8) -> Option<usize> {
    let mut length = usize::from(nibble);
    if length == NIBBLE {
        loop {
            let byte = *packed.get(*at)?;
            *at += 1;
            length += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::super::lz4::fill;
    use super::super::matches::Newest;
    use super::*;

    #[test]
    fn damage_is_an_error() {
        let mut out = [0; 100];
        let packed =
            fill(&mut Newest::new(), &[b"abcd".repeat(20), vec![1; 20]].concat(), 0, &mut out);
        let unpack_to = |block: &[u8], size| unpack(block, &mut vec![0; size]).is_ok();
        assert!(unpack_to(&out, packed.taken));
        for cut in 0..packed.made {
            assert!(!unpack_to(&out[..cut], packed.taken), "{cut}");
        }
        assert!(!unpack_to(&out[..packed.made], packed.taken + 1));
        for size in 0..packed.taken {
            let _ = unpack_to(&out, size); // Any answer but a panic.
        }
        out[packed.made / 2] ^= 0x80;
        let _ = unpack_to(&out, packed.taken); // Likewise.
    }
}
