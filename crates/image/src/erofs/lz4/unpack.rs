//! LZ4 decompressor that stops when its output is full.
//!
//! Format: see the module `lz4`. The decompressor is our own, because the crates need to
//! know where a block ends. Images for old kernels have padding after a block, and use
//! only the start of some blocks.

use anyhow::{Context, Result, ensure};

use super::format::{CONTINUED, MATCH_MIN};

/// Error text for data that ends too early.
const CUT_OFF: &str = "the lz4 data is cut off";

/// Fills `out` with the first bytes that the block `packed` unpacks to. Bytes of `packed`
/// that are not needed for that are ignored.
///
/// # Errors
/// The data is damaged or cut off.
pub(in crate::erofs) fn unpack(packed: &[u8], out: &mut [u8]) -> Result<()> {
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
        // A match may overlap its own output, which then repeats.
        while at < end {
            let count = distance.min(end - at);
            out.copy_within(at - distance..at - distance + count, at);
            at += count;
        }
    }
    Ok(())
}

/// Reads a length whose token has the half `nibble`; further bytes of it are at `at`.
pub(in crate::erofs) fn read_length(packed: &[u8], at: &mut usize, nibble: u8) -> Option<usize> {
    let mut length = usize::from(nibble);
    if length == CONTINUED {
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
    use super::super::fill::fill;
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
            let _ = unpack_to(&out, size); // It must not panic; the result may be either.
        }
        out[packed.made / 2] ^= 0x80;
        let _ = unpack_to(&out, packed.taken); // It must not panic; the result may be either.
    }
}
