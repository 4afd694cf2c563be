//! Compression in the containers that the kernel's initramfs unpacker knows.
//!
//! Each has a trap that its usual tool falls into: xz must check with CRC32,
//! for the kernel has no CRC64 (kernel doc: staging/xz.rst), lz4 must be the
//! legacy container (`lib/decompress_unlz4.c`), and a zstd window must not
//! exceed 8 MiB (`lib/decompress_unzstd.c`).

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
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
/// Up to this level the window stays at 8 MiB or below.
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

/// Largest archive in bytes that is unpacked for a look into it.
const ARCHIVE_MAX: u64 = 4 << 30;

/// Undoes whichever compression `bytes` start with, for all of `bytes`.
///
/// # Errors
/// Damaged or truncated data, or more than 4 GiB of it.
pub fn decompress(bytes: &[u8]) -> Result<Vec<u8>> {
    match bytes {
        [0x1f, 0x8b, ..] => read(flate2::read::MultiGzDecoder::new(bytes)).context("gzip"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            read(liblzma::read::XzDecoder::new_multi_decoder(bytes)).context("xz")
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::Decoder::new(bytes).map_err(Into::into).and_then(read).context("zstd")
        }
        [a, b, c, d, rest @ ..] if u32::from_le_bytes([*a, *b, *c, *d]) == LZ4_LEGACY_MAGIC => {
            unpack_lz4_legacy(rest).context("lz4")
        }
        _ => bail!("no compression that is known here"),
    }
}

fn read(decoder: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decoder.take(ARCHIVE_MAX + 1).read_to_end(&mut bytes).context("damaged or truncated")?;
    ensure!(bytes.len() as u64 <= ARCHIVE_MAX, "unpacks to more than 4 GiB");
    Ok(bytes)
}

fn unpack_lz4_legacy(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().context("truncated")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (packed, after) = after.split_at_checked(length).context("truncated")?;
        out.extend(lz4_flex::block::decompress(packed, LZ4_LEGACY_BLOCK).context("damaged")?);
        ensure!(out.len() as u64 <= ARCHIVE_MAX, "unpacks to more than 4 GiB");
        rest = after;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn round_trip(bytes in prop::collection::vec(any::<u8>(), 1..5000)) {
            for compression in ALL {
                let packed = compress(bytes.clone(), compression).unwrap();
                prop_assert_eq!(&decompress(&packed).unwrap(), &bytes, "{:?}", compression);
                prop_assert!(decompress(&packed[..packed.len() - 1]).is_err(), "{:?}", compression);
            }
        }
    }

    #[test]
    fn a_long_archive_takes_several_lz4_blocks() {
        let bytes: Vec<u8> = (0..LZ4_LEGACY_BLOCK + 5).map(|byte| byte.to_le_bytes()[0]).collect();
        let packed = compress(bytes.clone(), Compression::Lz4).unwrap();
        assert!(decompress(&packed).unwrap() == bytes);
    }
}
