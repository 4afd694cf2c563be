//! Reader of lzop(1) files, as the kernel's build makes them.
//!
//! Interface: `lib/decompress_unlzo.c` of the kernel, and lzop's `conf.h`. All numbers are
//! big endian. The header, in this order:
//!
//! | Field | Bytes | Present |
//! |---|---|---|
//! | magic | 9 | |
//! | version | 2 | |
//! | version of the library | 2 | |
//! | needed version | 2 | since version 0x0940 |
//! | method | 1 | |
//! | level | 1 | since version 0x0940 |
//! | flags | 4 | |
//! | filter | 4 | with flag 0x800 (`F_H_FILTER`) |
//! | mode | 4 | |
//! | time | 4, since version 0x0940 8 | |
//! | length of the name, name | 1 + length | |
//! | checksum | 4 | |
//!
//! Then blocks follow, each with these fields:
//!
//! | Field | Bytes | Present |
//! |---|---|---|
//! | unpacked size; 0 ends the file | 4 | |
//! | packed size | 4 | |
//! | checksums of the unpacked bytes | 4 each | for each of two flags |
//! | checksums of the packed bytes | 4 each | for each of two flags, if the block is compressed |
//! | contents | packed size | |
//!
//! If both sizes are equal, the block is stored uncompressed. The checksums are ignored, as
//! the kernel ignores them.

use anyhow::{Context, Result, ensure};

/// First bytes of a file (kernel: `lzop_magic`).
pub const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";

/// First version with the longer header.
const LONG_HEADER: u32 = 0x0940;
/// Flag: the header has the field filter (kernel: `HEADER_HAS_FILTER`).
const FLAG_FILTER: u32 = 0x800;
/// Flags: blocks have Adler-32 and CRC-32 of the unpacked bytes (lzop: `F_ADLER32_D`,
/// `F_CRC32_D`).
const FLAGS_UNPACKED: u32 = 0x1 | 0x100;
/// Flags: blocks have Adler-32 and CRC-32 of the packed bytes (lzop: `F_ADLER32_C`,
/// `F_CRC32_C`).
const FLAGS_PACKED: u32 = 0x2 | 0x200;

/// Unpacks the file `packed`.
///
/// # Errors
/// The contents are damaged, cut, or larger than `limit` bytes.
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

/// Skips the header and returns its flags; `None` if the header is cut.
fn header(input: &mut Input) -> Option<u32> {
    input.take(MAGIC.len())?;
    let is_long = input.number(2)? >= LONG_HEADER;
    // Version of the library, method; in a long header also needed version and level.
    input.take(if is_long { 2 + 2 + 1 + 1 } else { 2 + 1 })?;
    let flags = input.number(4)?;
    let filter = if flags & FLAG_FILTER == 0 { 0 } else { 4 };
    let time = if is_long { 8 } else { 4 };
    input.take(filter + 4 + time)?;
    let name = input.number(1)?;
    input.take(name as usize + 4)?;
    Some(flags)
}

/// Reads the contents of a block with `size` unpacked bytes; `None` if the block is cut.
fn block<'a>(input: &mut Input<'a>, flags: u32, size: usize) -> Option<&'a [u8]> {
    let packed = input.number(4)? as usize;
    let mut checksums = (flags & FLAGS_UNPACKED).count_ones();
    if packed < size {
        checksums += (flags & FLAGS_PACKED).count_ones();
    }
    input.take(checksums as usize * 4)?;
    input.take(packed)
}

/// Bytes that are not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads the next `count` bytes.
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Option<u32> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with `flags` and with blocks, each given by its unpacked size and contents.
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

    /// 20 times `A` in LZO: one literal, a match of 19 bytes at distance 1, the end.
    const PACKED: &[u8] = &[18, b'A', 0x31, 0, 0, 0x11, 0, 0];

    #[test]
    fn every_version_and_flag_is_read() {
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
