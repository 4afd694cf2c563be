//! CRC-32C without the inversion at the end, as the kernel's `crc32c` computes it.
//!
//! Source: RFC 3720, appendix B.4; lib/crc32.c of Linux 6.1.

/// Castagnoli polynomial, bits reversed (`CRC32C_POLY_LE`).
pub(crate) const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Checksum of each single byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let (mut value, mut bit) = (byte, 0);
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[byte as usize] = value;
        byte += 1;
    }
    table
};

/// Continues the checksum `start` over `bytes`.
pub(crate) fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(start, |crc, &byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of RFC 3720, appendix B.4, and the usual check value.
    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(crc32c(!0, b"12345"), b"6789"), crc32c(!0, b"123456789"));
    }
}
