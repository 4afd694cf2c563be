//! Little-endian fields at fixed offsets of a byte slice.
//!
//! A field beyond the end of the slice reads as 0. Callers check the length first where
//! that matters.

/// The `N` bytes at `offset`.
pub(in crate::erofs) fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// The 16-bit number at `offset`.
pub(in crate::erofs) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

/// The 32-bit number at `offset`.
pub(in crate::erofs) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

/// The 64-bit number at `offset`.
pub(in crate::erofs) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}

/// Stores `value` at `offset`.
pub(in crate::erofs) fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&value);
}
