//! Compression in the containers that the kernel's initramfs unpacker knows.
//!
//! Each has a trap that its usual tool falls into: xz must check with CRC32,
//! for the kernel has no CRC64 (kernel doc: staging/xz.rst), lz4 must be the
//! legacy container (`lib/decompress_unlz4.c`), and a zstd window takes memory
//! of the guest as long as it unpacks (`lib/decompress_unzstd.c`).

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use liblzma::stream::{Check, Stream};

/// A container around an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// As it is: quickest to make and to boot
    #[default]
    None,
    /// RFC 1952
    Gzip,
    /// RFC 8878
    Zstd,
    /// With CRC32 checks
    Xz,
    /// Legacy container
    Lz4,
}

/// Trades time for size; the usual default of gzip(1) and xz(1).
const GZIP_LEVEL: u32 = 6;
/// As [`GZIP_LEVEL`].
const XZ_LEVEL: u32 = 6;
/// Up to this level the window has 4 MiB or less.
const ZSTD_LEVEL: i32 = 9;
/// First bytes of a legacy lz4 file, little endian.
const LZ4_LEGACY_MAGIC: u32 = 0x184C_2102;
/// Uncompressed bytes in each block of a legacy lz4 file but the last.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

/// Puts `bytes` into the container `compression`.
pub fn compress(bytes: Vec<u8>, compression: Compression) -> Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(bytes),
        Compression::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&bytes)?;
            Ok(encoder.finish()?)
        }
        Compression::Zstd => Ok(zstd::encode_all(&bytes[..], ZSTD_LEVEL)?),
        Compression::Xz => {
            let stream = Stream::new_easy_encoder(XZ_LEVEL, Check::Crc32)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(&bytes)?;
            Ok(encoder.finish()?)
        }
        Compression::Lz4 => lz4_legacy(&bytes),
    }
}

/// Magic, then blocks, each behind its compressed length (32 bits, little
/// endian).
fn lz4_legacy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = LZ4_LEGACY_MAGIC.to_le_bytes().to_vec();
    for block in bytes.chunks(LZ4_LEGACY_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        out.extend(u32::try_from(packed.len()).context("lz4 block")?.to_le_bytes());
        out.extend(packed);
    }
    Ok(out)
}

/// How a compressed segment starts.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// As [`GZIP_MAGIC`].
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// As [`GZIP_MAGIC`].
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Undoes the compression that `bytes` start with: the contents, and what
/// follows the compressed part. `None` where `bytes` are not compressed.
///
/// # Errors
/// Damaged or truncated data, or contents of more than `limit` bytes.
pub fn decompress(bytes: &[u8], limit: u64) -> Result<Option<(Vec<u8>, &[u8])>> {
    let mut rest = bytes;
    let mut out = Vec::new();
    let name = if bytes.starts_with(GZIP_MAGIC) {
        // Parts made side by side (pigz) follow each other without a gap.
        while rest.starts_with(GZIP_MAGIC) {
            read(flate2::bufread::GzDecoder::new(&mut rest), &mut out, limit).context("gzip")?;
        }
        "gzip"
    } else if bytes.starts_with(XZ_MAGIC) {
        read(liblzma::bufread::XzDecoder::new(&mut rest), &mut out, limit).context("xz")?;
        "xz"
    } else if bytes.starts_with(ZSTD_MAGIC) {
        while rest.starts_with(ZSTD_MAGIC) {
            let decoder = zstd::Decoder::with_buffer(&mut rest)?.single_frame();
            read(decoder, &mut out, limit).context("zstd")?;
        }
        "zstd"
    } else if bytes.starts_with(&LZ4_LEGACY_MAGIC.to_le_bytes()) {
        rest = unpack_lz4_legacy(&bytes[4..], &mut out, limit).context("lz4")?;
        "lz4"
    } else {
        return Ok(None);
    };
    ensure!(out.len() as u64 <= limit, "{name}: unpacks to more than {} MiB", limit >> 20);
    Ok(Some((out, rest)))
}

/// Appends to `out` what `decoder` gives, up to one byte past `limit`.
fn read(decoder: impl Read, out: &mut Vec<u8>, limit: u64) -> Result<()> {
    let room = (limit + 1).saturating_sub(out.len() as u64);
    decoder.take(room).read_to_end(out).context("damaged or truncated")?;
    Ok(())
}

/// Reads blocks up to a length of 0, which is padding, or the end.
fn unpack_lz4_legacy<'a>(mut rest: &'a [u8], out: &mut Vec<u8>, limit: u64) -> Result<&'a [u8]> {
    let mut block = vec![0; LZ4_LEGACY_BLOCK];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || out.len() as u64 > limit {
            return Ok(rest);
        }
        if length == LZ4_LEGACY_MAGIC as usize {
            // One file behind another.
            rest = after;
            continue;
        }
        let (packed, after) = after.split_at_checked(length).context("truncated")?;
        let size = lz4_flex::block::decompress_into(packed, &mut block).context("damaged")?;
        out.extend_from_slice(&block[..size]);
        rest = after;
    }
    ensure!(rest.iter().all(|&byte| byte == 0), "truncated");
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u64 = 1 << 30;

    const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn round_trip(bytes in prop::collection::vec(any::<u8>(), 1..5000)) {
            for compression in ALL {
                let packed = compress(bytes.clone(), compression).unwrap();
                let mut padded = packed.clone();
                padded.extend([0; 8]);
                padded.push(1);
                let (contents, rest) = decompress(&padded, LIMIT).unwrap().unwrap();
                prop_assert_eq!(&contents, &bytes, "{:?}", compression);
                prop_assert_eq!(rest, &padded[packed.len()..], "{:?}", compression);
                let cut = &packed[..packed.len() - 1];
                prop_assert!(decompress(cut, LIMIT).is_err(), "{:?}", compression);
                let short = bytes.len() as u64 - 1;
                prop_assert!(decompress(&packed, short).is_err(), "{:?}", compression);
            }
        }
    }

    #[test]
    fn a_long_archive_takes_several_lz4_blocks() {
        let bytes: Vec<u8> = (0..LZ4_LEGACY_BLOCK + 5).map(|byte| byte.to_le_bytes()[0]).collect();
        let packed = compress(bytes.clone(), Compression::Lz4).unwrap();
        assert!(decompress(&packed, LIMIT).unwrap().unwrap().0 == bytes);
    }
}
