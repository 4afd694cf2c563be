//! Files of lzop(1), as the kernel's build makes them.
//!
//! Interface: `lib/decompress_unlzo.c` of the kernel, and lzop's own format. All
//! numbers are big endian. Behind the magic: version (2 bytes), the library's
//! version (2), since version 0x0940 the version needed (2), method (1), since
//! 0x0940 level (1), flags (4), with flag 0x800 a filter (4), mode (4), time (4;
//! since 0x0940 8), name (its length in 1 byte, then the name), a checksum (4).
//! Then blocks: size unpacked (4; 0 ends), size packed (4), a checksum of the
//! unpacked bytes for each of two flags (4 each), and where the block did get
//! smaller likewise of the packed bytes, then the block. One that did not get
//! smaller is stored as it is.
//!
//! The checksums are not looked at: the kernel that reads them does not either.

use anyhow::{Context, Result, ensure};

/// How a file starts.
pub const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";

/// From this version on the header is longer.
const LONG_HEADER: u32 = 0x0940;
/// The header names a filter.
const FLAG_FILTER: u32 = 0x800;
/// Blocks have Adler-32 and CRC-32 of the unpacked bytes.
const FLAGS_UNPACKED: u32 = 0x1 | 0x100;
/// As [`FLAGS_UNPACKED`], of the packed bytes.
const FLAGS_PACKED: u32 = 0x2 | 0x200;

/// The contents of the file `packed`.
///
/// # Errors
/// They are damaged, cut, or more than `limit` bytes.
pub fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut input = Input(packed);
    let flags = header(&mut input).context("truncated")?;
    let mut out = Vec::new();
    loop {
        let size = input.number(4).context("truncated")? as usize;
        if size == 0 {
            return Ok(out);
        }
        ensure!(size <= limit - out.len(), "more than the {limit} bytes that it should have");
        let block = block(&mut input, flags, size).context("truncated")?;
        if block.len() == size {
            out.extend_from_slice(block);
            continue;
        }
        let start = out.len();
        out.resize(start + size, 0);
        let unpacked = lzokay::decompress::decompress(block, &mut out[start..]);
        ensure!(unpacked == Ok(size), "damaged");
    }
}

/// Skips the header; its flags.
fn header(input: &mut Input) -> Option<u32> {
    input.take(MAGIC.len())?;
    let is_long = input.number(2)? >= LONG_HEADER;
    // Versions and method, and of a long header the level.
    input.take(if is_long { 2 + 2 + 1 + 1 } else { 2 + 1 })?;
    let flags = input.number(4)?;
    let filter = if flags & FLAG_FILTER == 0 { 0 } else { 4 };
    let time = if is_long { 8 } else { 4 };
    input.take(filter + 4 + time)?;
    let name = input.number(1)?;
    input.take(name as usize + 4)?;
    Some(flags)
}

/// The packed bytes of a block that has `size` unpacked ones.
fn block<'a>(input: &mut Input<'a>, flags: u32, size: usize) -> Option<&'a [u8]> {
    let packed = input.number(4)? as usize;
    let mut checksums = (flags & FLAGS_UNPACKED).count_ones();
    if packed < size {
        checksums += (flags & FLAGS_PACKED).count_ones();
    }
    input.take(checksums as usize * 4)?;
    input.take(packed)
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Option<u32> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with `flags`, and the blocks given as size and packed bytes.
    fn file(version: u16, flags: u32, blocks: &[(u32, &[u8])]) -> Vec<u8> {
        let is_long = u32::from(version) >= LONG_HEADER;
        let mut file = [MAGIC, &version.to_be_bytes(), &[0; 2]].concat();
        file.extend(if is_long { &[0; 4][..] } else { &[0; 1] });
        file.extend(flags.to_be_bytes());
        file.extend(vec![0; if flags & FLAG_FILTER == 0 { 0 } else { 4 }]);
        file.extend(vec![0; if is_long { 12 } else { 8 }]);
        file.extend(b"\x07vmlinux....");
        for (size, packed) in blocks {
            file.extend(size.to_be_bytes());
            file.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
            let is_packed = packed.len() < *size as usize;
            let flags = flags & (FLAGS_UNPACKED | if is_packed { FLAGS_PACKED } else { 0 });
            file.extend(b"....".repeat(flags.count_ones() as usize));
            file.extend(*packed);
        }
        file.extend([0; 4]);
        file
    }

    /// 20 times `A`: one literal, a match of 19 at distance 1, the end.
    const PACKED: &[u8] = &[18, b'A', 0x31, 0, 0, 0x11, 0, 0];

    #[test]
    fn every_layout_is_read() {
        for (name, version, flags) in [
            ("as the kernel's", 0x1040, 1),
            ("without checksums", 0x1040, 0),
            ("with all", 0x1040, FLAGS_UNPACKED | FLAGS_PACKED | FLAG_FILTER),
            ("old", 0x0930, 1),
        ] {
            let file = file(version, flags, &[(20, PACKED), (3, b"raw"), (20, PACKED)]);
            let unpacked = unpack(&file, 43).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(unpacked, [&[b'A'; 20][..], b"raw", &[b'A'; 20]].concat(), "{name}");
            assert!(unpack(&file, 42).is_err(), "{name}");
            for end in 0..file.len() {
                assert!(unpack(&file[..end], 43).is_err(), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn hostile_blocks_are_errors() {
        for (name, size, packed) in [
            ("huge", u32::MAX, PACKED),
            ("too small", 19, PACKED),
            ("too large", 21, PACKED),
            ("looks back too far", 20, &[18, b'A', 0x31, 4, 0, 0x11, 0, 0]),
            ("larger than unpacked", 2, b"raw"),
        ] {
            assert!(unpack(&file(0x1040, 1, &[(size, packed)]), 1 << 20).is_err(), "{name}");
        }
    }
}
