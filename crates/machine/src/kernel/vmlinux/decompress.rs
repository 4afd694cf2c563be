//! Unpacking of the compressed kernel in a bzImage.
//!
//! Interface: the kernel's build compresses with the usual tools and appends the size of the
//! contents, four bytes little endian (`scripts/Makefile.lib`, `size_append`). A gzip file
//! ends in its size anyway (RFC 1952, ISIZE). The first bytes tell which tool was used
//! (`lib/decompress.c`).

use std::io::Read;

use anyhow::{Context, Result, ensure};
use archive::compress;
use liblzma::stream::Stream;

use super::lzop;

/// Size in bytes of the largest unpacked kernel that is accepted. The largest kernel of a
/// distribution has about 100 MiB.
pub const MOST: usize = 512 << 20;
/// Most bytes of memory for an lzma decoder. The kernel's build uses windows of up to
/// 128 MiB.
const LZMA_MEMORY: u64 = 256 << 20;
/// Size in bytes of the appended size.
const TRAILER: usize = 4;

/// Function that unpacks its first argument. Its second argument is the expected size in
/// bytes; if there is more, the function fails or returns at least one byte more.
type Unpack = fn(&[u8], usize) -> Result<Vec<u8>>;

/// Compression of a kernel.
struct KernelCompression {
    name: &'static str,
    /// First bytes of a compressed file.
    magic: &'static [u8],
    /// Whether the size at the end is part of the format itself, as in gzip.
    has_size: bool,
    unpack: Unpack,
}

#[rustfmt::skip]
const FORMATS: &[KernelCompression] = &[
    KernelCompression { name: "gzip",  magic: compress::GZIP_MAGIC, has_size: true,  unpack: of_archives },
    KernelCompression { name: "xz",    magic: compress::XZ_MAGIC,   has_size: false, unpack: of_archives },
    KernelCompression { name: "zstd",  magic: compress::ZSTD_MAGIC, has_size: false, unpack: of_archives },
    KernelCompression { name: "lz4",   magic: compress::LZ4_MAGIC,  has_size: false, unpack: of_archives },
    KernelCompression { name: "bzip2", magic: b"BZh",             has_size: false, unpack: bzip2 },
    KernelCompression { name: "lzma",  magic: b"\x5d\0\0",        has_size: false, unpack: lzma },
    KernelCompression { name: "lzo",   magic: lzop::MAGIC,        has_size: false, unpack: lzop::unpack },
];

/// Unpacks the payload of a bzImage; `None` if its compression is unknown.
///
/// # Errors
/// The contents are damaged or cut, or larger than [`MOST`] bytes.
pub fn decompress(payload: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(format) = FORMATS.iter().find(|format| payload.starts_with(format.magic)) else {
        return Ok(None);
    };
    unpack(format, payload).context(format.name).map(Some)
}

/// Name of the tool that compressed the file that begins with `head`; `None` if the file is
/// not compressed, or the tool is unknown.
#[must_use]
pub fn tool(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(compress::LZ4_FRAME_MAGIC) {
        return Some("lz4");
    }
    FORMATS.iter().find(|format| head.starts_with(format.magic)).map(|format| format.name)
}

/// Unpacks the compressed file `packed`, to which no size is appended; `None` if its
/// compression is unknown.
///
/// # Errors
/// The contents are damaged or cut, or larger than [`MOST`] bytes.
pub fn whole(packed: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(name) = tool(packed) else { return Ok(None) };
    let format = FORMATS.iter().find(|format| packed.starts_with(format.magic));
    let contents = match format {
        Some(format) => (format.unpack)(packed, MOST),
        None => read(lz4_flex::frame::FrameDecoder::new(packed), MOST),
    };
    let contents = contents.context(name)?;
    ensure!(contents.len() <= MOST, "{name}: more than {} MiB", MOST >> 20);
    Ok(Some(contents))
}

/// Unpacks a payload and checks its size against the appended size.
fn unpack(format: &KernelCompression, payload: &[u8]) -> Result<Vec<u8>> {
    let (packed, size) = payload.split_last_chunk::<TRAILER>().context("the payload is cut")?;
    let size = u32::from_le_bytes(*size) as usize;
    ensure!(size <= MOST, "a kernel of {} MiB; the most is {} MiB", size >> 20, MOST >> 20);
    let contents = (format.unpack)(if format.has_size { payload } else { packed }, size)?;
    ensure!(contents.len() == size, "{} bytes where {size} are expected", contents.len());
    Ok(contents)
}

/// Unpacks the formats that archives use, too.
fn of_archives(packed: &[u8], size: usize) -> Result<Vec<u8>> {
    let unpacked = compress::decompress(packed, size as u64)?;
    Ok(unpacked.context("not compressed")?.0)
}

fn bzip2(packed: &[u8], size: usize) -> Result<Vec<u8>> {
    read(bzip2::bufread::BzDecoder::new(packed), size)
}

fn lzma(packed: &[u8], size: usize) -> Result<Vec<u8>> {
    let stream = Stream::new_lzma_decoder(LZMA_MEMORY)?;
    read(liblzma::bufread::XzDecoder::new_stream(packed, stream), size)
}

/// Reads at most `size` bytes and one more, so that the caller notices larger contents.
fn read(decoder: impl Read, size: usize) -> Result<Vec<u8>> {
    // If only the limit `MOST` is known, let the memory grow with the contents.
    let mut contents = Vec::with_capacity(if size == MOST { 0 } else { size });
    decoder.take(size as u64 + 1).read_to_end(&mut contents).context("damaged or truncated")?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// [`contents`], compressed by the tools and options that the kernel's build
    /// uses: `gzip -n -9`, `xz --check=crc32 --x86 --lzma2=dict=32MiB`, `zstd --ultra
    /// -22`, `lz4 -l -9`, `bzip2 -9`, `lzma -9`, `lzop -9`.
    #[rustfmt::skip]
    const PACKED: &[(&str, &str)] = &[
        ("gzip", "1f8b08000000000002034b54c84e2dca4bcdd151481c658db24659c394c5c0c8c4ccc2cac6cec1c9c5cdc3cbc7cf300a8806a97929007863399d27050000"),
        ("xz", "fd377a585a0000016922de360201040021011a0001c980b3e00526002e5d0030880966945374b67169d8e859b73f8170fa06c5d84115a9124d9bc6630edba6760584dce63403a8135c71f540000000007863399d000146a70a0000004e9eeeb73e300d8b020000000001595a"),
        ("zstd", "28b52ffd0488450100f061206b65726e656c2c20000102030405060708090a0b0c0d0e0f00656e640200515c756d6f5590258edf81"),
        ("lz4", "02214c182e000000af61206b65726e656c2c200a00ffffffceff02000102030405060708090a0b0c0d0e0f000100ff17500000656e64"),
        ("bzip2", "425a6839314159265359499065140000d45180ffffc024260d10000008200050a68d00680000a55234003401934cb51df0b1d9b776fe1c7973e9d7b65dfc917a22cbf1178a17cce45f7322c48b39168458116ffe2ee48a70a1209320ca28"),
        ("lzma", "5d00000004ffffffffffffffff0030880966945374b67169d8e859b73f8170fa06c5d84115a9124d9bc6630edba6760584dce63403a8135c9e53611dfff12d0000"),
        ("lzo", "894c5a4f000d0a1a0a104020a0094003090300000d000081a46b014937000000000032d10387000005270000002f1b1f4c371b61206b65726e656c2c2020000000c024000e000102030405060708090a0b0c0d0e0f0020000b0300656e6411000000000000"),
    ];

    fn contents() -> Vec<u8> {
        let bytes: Vec<u8> = (0..16).collect();
        [&b"a kernel, ".repeat(100)[..], &bytes, &[0; 300], b"end"].concat()
    }

    /// Payloads as the kernel's build makes them of [`contents`], with the name of the tool.
    fn payloads() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        let bytes = |hex: &str| -> Vec<u8> {
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        };
        PACKED.iter().map(move |(name, hex)| {
            let size = u32::try_from(contents().len()).unwrap().to_le_bytes();
            let size: &[u8] = if *name == "gzip" { &[] } else { &size };
            (*name, [&bytes(hex)[..], size].concat())
        })
    }

    #[test]
    fn the_output_of_every_tool_is_unpacked() {
        assert_eq!(payloads().count(), FORMATS.len());
        for (name, payload) in payloads() {
            let unpacked = decompress(&payload).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(unpacked == Some(contents()), "{name}");
        }
    }

    #[test]
    fn other_bytes_are_not_compressed() {
        for bytes in [&b""[..], b"\x1f", b"\x7fELF", b"MZ", &[0; 100]] {
            assert_eq!(decompress(bytes).unwrap(), None, "{bytes:?}");
        }
    }

    /// The payload is cut anywhere, but the appended size is still there.
    #[test]
    fn a_cut_payload_is_an_error() {
        for (name, payload) in payloads() {
            let (packed, size) = payload.split_last_chunk::<TRAILER>().unwrap();
            for end in 9..packed.len() - 4 {
                let cut = [&packed[..end], size].concat();
                assert!(decompress(&cut).is_err(), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn a_wrong_size_is_an_error() {
        let right = u32::try_from(contents().len()).unwrap();
        for (name, payload) in payloads() {
            for size in [0, right - 1, right + 1, u32::MAX] {
                let mut payload = payload.clone();
                let at = payload.len() - TRAILER;
                payload[at..].copy_from_slice(&size.to_le_bytes());
                assert!(decompress(&payload).is_err(), "{name}: {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(
            format in 0..PACKED.len(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            end in any::<prop::sample::Index>(),
        ) {
            let (_, mut payload) = payloads().nth(format).unwrap();
            let size = payload.split_off(payload.len() - TRAILER);
            for (at, byte) in changes {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            payload.truncate(end.index(payload.len()));
            payload.extend(size);
            if let Ok(Some(unpacked)) = decompress(&payload) {
                prop_assert_eq!(unpacked.len(), contents().len());
            }
        }

        #[test]
        fn no_bytes_behind_a_magic_panic(
            format in 0..FORMATS.len(),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            size in 0_u32..1 << 20,
        ) {
            let payload = [FORMATS[format].magic, &bytes, &size.to_le_bytes()].concat();
            let _ = decompress(&payload); // any result is fine
        }
    }
}
