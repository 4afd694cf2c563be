//! Blocks, little-endian fields at fixed offsets, and the checksum of ext4.
//!
//! Interface: kernel doc filesystems/ext4, "Checksums": CRC-32C with the reflected
//! polynomial 0x82F63B78. The function inverts neither the start nor the result. A field
//! beyond the end of a slice reads as 0.

use crate::disk_parts::crc32c::{POLYNOMIAL, crc32c};

/// Base 2 logarithm of [`BLOCK`].
pub(in crate::ext4) const BLOCK_BITS: u32 = 12;

/// Bytes of a block in the images that we write (`s_log_block_size` 2).
pub(in crate::ext4) const BLOCK: usize = 1 << BLOCK_BITS;

/// Bytes of one block.
pub(in crate::ext4) type Ext4Block = [u8; BLOCK];

/// Block of zeros.
pub(in crate::ext4) const ZEROS: Ext4Block = [0; BLOCK];

/// Makes a UUID that starts like `hash` and has the CRC-32C `checksum`.
///
/// The kernel starts the checksums of all metadata with the checksum of the UUID. If that
/// is chosen in advance, metadata can be written before the UUID is known.
pub(in crate::ext4) fn uuid_with_checksum(hash: [u8; 16], checksum: u32) -> [u8; 16] {
    /// Number of bytes taken from `hash`; the other four set the checksum.
    const FREE: usize = 12;
    // Run the checksum backwards over its last 32 bits.
    let before = (0..u32::BITS).fold(checksum, |value, _| match value >> 31 {
        0 => value << 1,
        _ => (value ^ POLYNOMIAL) << 1 | 1,
    });
    let mut uuid = hash;
    put32(&mut uuid, FREE, before ^ crc32c(!0, &hash[..FREE]));
    uuid
}

/// Stores the bytes `value` at offset `at`.
pub(in crate::ext4) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Stores a 16-bit number at offset `at`.
pub(in crate::ext4) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, value.to_le_bytes());
}

/// Stores a 32-bit number at offset `at`.
pub(in crate::ext4) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, value.to_le_bytes());
}

/// Stores the two halves of a 64-bit number at the offsets `low` and `high`.
pub(in crate::ext4) fn put_halves(bytes: &mut [u8], low: usize, high: usize, value: u64) {
    put32(bytes, low, low32(value));
    put32(bytes, high, low32(value >> 32));
}

/// Stores the two halves of a 32-bit number at the offsets `low` and `high`.
pub(in crate::ext4) fn put_quarters(bytes: &mut [u8], low: usize, high: usize, value: u32) {
    put16(bytes, low, low16(value));
    put16(bytes, high, low16(value >> 16));
}

/// Lower 32 bits of a number.
pub(in crate::ext4) fn low32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Lower 16 bits of a number.
pub(in crate::ext4) fn low16(value: u32) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

/// Lower 16 bits of a number that is known to have no more.
pub(in crate::ext4) fn small(value: usize) -> u16 {
    low16(low32(value as u64))
}

/// The 16-bit number at offset `at`.
pub(in crate::ext4) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

/// The 32-bit number at offset `at`.
pub(in crate::ext4) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

/// The 64-bit number whose halves are at the offsets `low` and `high`.
pub(in crate::ext4) fn get_halves(bytes: &[u8], low: usize, high: usize) -> u64 {
    u64::from(get32(bytes, low)) | u64::from(get32(bytes, high)) << 32
}

/// The 32-bit number whose halves are at the offsets `low` and `high`.
pub(in crate::ext4) fn get_quarters(bytes: &[u8], low: usize, high: usize) -> u32 {
    u32::from(get16(bytes, low)) | u32::from(get16(bytes, high)) << 16
}

/// The `N` bytes at offset `at`.
pub(in crate::ext4) fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_can_have_any_checksum() {
        for (hash, checksum) in [([0; 16], 0), ([7; 16], 1), (*b"0123456789abcdef", 0xdead_beef)] {
            let uuid = uuid_with_checksum(hash, checksum);
            assert_eq!((crc32c(!0, &uuid), &uuid[..12]), (checksum, &hash[..12]));
        }
    }

    #[test]
    fn halves_read_back_as_the_number() {
        let mut bytes = [0; 16];
        put_halves(&mut bytes, 0, 12, 0x0123_4567_89ab_cdef);
        put_quarters(&mut bytes, 4, 8, 0x1122_3344);
        assert_eq!(get_halves(&bytes, 0, 12), 0x0123_4567_89ab_cdef);
        assert_eq!(get_quarters(&bytes, 4, 8), 0x1122_3344);
        assert_eq!(get32(&bytes, 14), 0);
    }
}
