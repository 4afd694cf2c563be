//! Compression in the containers that the kernel's initramfs unpacker knows.
//!
//! Each has a trap that its usual tool falls into: xz must check with CRC32,
//! for the kernel has no CRC64 (kernel doc: staging/xz.rst), lz4 must be the
//! legacy container (`lib/decompress_unlz4.c`), and a zstd window takes memory
//! of the guest as long as it unpacks (`lib/decompress_unzstd.c`).

use std::io::Write;

use anyhow::{Result, ensure};
use files::named::Named;

use super::stream::{Encoder, Method};
use super::unpack::{Unpacked, unpack};

/// A container around an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

#[rustfmt::skip]
impl Named for Compression {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("none", Self::None, "As it is: quickest to make and to boot"),
        ("gzip", Self::Gzip, "RFC 1952"),
        ("zstd", Self::Zstd, "RFC 8878"),
        ("xz", Self::Xz, "With CRC32 checks"),
        ("lz4", Self::Lz4, "Legacy container"),
    ];
}

/// Of what a guest unpacks: up to this level the window has 4 MiB or less.
const ZSTD_LEVEL: i32 = 9;

/// Puts `bytes` into the container `compression`.
pub fn compress(bytes: Vec<u8>, compression: Compression) -> Result<Vec<u8>> {
    if compression == Compression::None {
        return Ok(bytes);
    }
    let level = (compression == Compression::Zstd).then_some(ZSTD_LEVEL);
    let method = Method { compression, level };
    let mut encoder = Encoder::new(Vec::new(), method, 0)?;
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?)
}

/// Unpacks the containers that `bytes` start with: their contents, and what follows
/// them and their padding. `None` where `bytes` are not compressed.
///
/// # Errors
/// Damaged or truncated data, or contents of more than `limit` bytes.
pub fn decompress(bytes: &[u8], limit: u64) -> Result<Option<(Vec<u8>, &[u8])>> {
    let mut out = Vec::new();
    let found = unpack(&mut { bytes }, &mut out, limit)?;
    let rest = |unpacked: Unpacked| bytes.get(usize::try_from(unpacked.end).ok()?..);
    Ok(found.map(|unpacked| (out, rest(unpacked).unwrap_or_default())))
}

/// As [`decompress`], for bytes that have nothing but containers and padding.
///
/// # Errors
/// Also anything that follows them, with its offset.
pub fn decompress_all(bytes: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
    let Some((contents, rest)) = decompress(bytes, limit)? else { return Ok(None) };
    ensure!(
        rest.is_empty(),
        "offset {}: neither compressed data nor padding follows",
        bytes.len() - rest.len()
    );
    Ok(Some(contents))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lz4::BLOCK;
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
                prop_assert_eq!(rest, &[1], "{:?}", compression);
                let cut = &packed[..packed.len() - 1];
                prop_assert!(decompress(cut, LIMIT).is_err(), "{:?}", compression);
                let short = bytes.len() as u64 - 1;
                prop_assert!(decompress(&packed, short).is_err(), "{:?}", compression);
            }
        }
    }

    #[test]
    fn all_of_it_is_containers_and_padding() {
        for compression in ALL {
            let mut bytes = compress(b"contents".to_vec(), compression).unwrap();
            bytes.extend([0; 8]);
            let contents = decompress_all(&bytes, LIMIT).unwrap().unwrap();
            assert_eq!(contents, b"contents", "{compression}");
            bytes.push(1);
            assert!(decompress_all(&bytes, LIMIT).is_err(), "{compression}");
        }
        assert_eq!(decompress_all(b"plain", LIMIT).unwrap(), None);
    }

    #[test]
    fn methods_have_names_and_levels() {
        for (text, expected) in [
            ("none", "none"),
            ("zstd:19", "zstd:19"),
            ("lz4", "lz4"),
            ("lz4:3", "lz4:3"),
            ("lz4hc", "lz4:9"),
            ("lz4hc:12", "lz4:12"),
            ("lz4hc:13", "lz4hc has levels from 1 to 12"),
            ("none:1", "none has no levels"),
            ("brotli", "\"brotli\" is none of none, gzip, zstd, xz, lz4, lz4hc"),
        ] {
            let parsed = text.parse::<Method>();
            let shown = parsed.map_or_else(|error| error.to_string(), |method| method.to_string());
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn a_long_archive_takes_several_lz4_blocks() {
        let bytes: Vec<u8> = (0..BLOCK + 5).map(|byte| byte.to_le_bytes()[0]).collect();
        let packed = compress(bytes.clone(), Compression::Lz4).unwrap();
        assert!(decompress(&packed, LIMIT).unwrap().unwrap().0 == bytes);
    }
}
