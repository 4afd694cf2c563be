//! Compressing into the containers of [`super::compress`] as a stream: an archive
//! need not fit in memory. [`super::unpack`] reads them.
//!
//! How many threads there are never shows in the bytes: zstd and xz cut what
//! they are given into parts of one size, whoever compresses them.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use files::named::Named;
use liblzma::stream::{Check, MtStreamBuilder, Stream};
use zstd::zstd_safe::CParameter;

use super::compress::Compression;
use super::lz4::{self, Lz4Encoder};

/// First bytes of a gzip member (RFC 1952 §2.3.1).
pub const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// First bytes of an xz stream (The .xz File Format §2.1.1.1).
pub const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// First bytes of a zstd frame (RFC 8878 §3.1.1).
pub const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of a legacy lz4 file (`ARCHIVE_MAGICNUMBER`, `lib/decompress_unlz4.c`).
pub const LZ4_MAGIC: &[u8] = &lz4::MAGIC.to_le_bytes();
/// Last three of the first bytes of a skippable frame; the first byte is 0x50 to
/// 0x5f (RFC 8878 §3.1.2).
const SKIPPABLE_MAGIC: &[u8] = &[0x2a, 0x4d, 0x18];

/// Bytes that one thread of xz compresses at a time, or of zstd: larger ones take
/// more memory in every thread, smaller ones make larger files.
const XZ_PART: u64 = 8 << 20;
/// As [`XZ_PART`].
const ZSTD_PART: u32 = 2 << 20;

/// What is known of a container.
struct Container {
    compression: Compression,
    /// How it starts.
    magic: &'static [u8],
    /// Lowest, usual and highest level.
    levels: Option<(i32, i32, i32)>,
}

/// The usual ones are those of gzip(1), xz(1) and zstd(1). lz4 has levels in EROFS.
#[rustfmt::skip]
const CONTAINERS: &[Container] = &[
    Container { compression: Compression::Gzip, magic: GZIP_MAGIC, levels: Some((1, 6, 9)) },
    Container { compression: Compression::Xz,   magic: XZ_MAGIC,   levels: Some((0, 6, 9)) },
    Container { compression: Compression::Zstd, magic: ZSTD_MAGIC, levels: Some((1, 3, 19)) },
    Container { compression: Compression::Lz4,  magic: LZ4_MAGIC,  levels: Some((1, 1, 12)) },
];

impl Compression {
    /// The container that bytes starting with `head` are in. A skippable frame, which
    /// has no contents, belongs to zstd: pzstd begins each file with one.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        if matches!(head, [0x50..=0x5f, rest @ ..] if rest.starts_with(SKIPPABLE_MAGIC)) {
            return Self::Zstd;
        }
        let found = CONTAINERS.iter().find(|container| head.starts_with(container.magic));
        found.map_or(Self::None, |container| container.compression)
    }

    fn container(self) -> Option<&'static Container> {
        CONTAINERS.iter().find(|container| container.compression == self)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name for lz4 that looks harder for matches, and the level that it means, as of
/// mkfs.erofs(1).
const LZ4HC: (&str, i32) = ("lz4hc", 9);

/// How to compress: `METHOD[:LEVEL]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// The container.
    pub compression: Compression,
    /// One that the container has, or its usual one.
    pub level: Option<i32>,
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, level) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let mut methods: Vec<_> = Compression::NAMES
            .iter()
            .map(|&(name, compression, _)| (name, compression, None))
            .collect();
        methods.push((LZ4HC.0, Compression::Lz4, Some(LZ4HC.1)));
        let found = methods.iter().find(|(known, ..)| *known == name);
        let Some(&(_, compression, usual)) = found else {
            let names: Vec<_> = methods.iter().map(|(name, ..)| *name).collect();
            bail!("\"{name}\" is none of {}", names.join(", "));
        };
        let Some(level) = level else { return Ok(Self { compression, level: usual }) };
        let levels = compression.container().and_then(|container| container.levels);
        let Some((low, _, high)) = levels else { bail!("{name} has no levels") };
        let level = level.parse().ok().filter(|level| (low..=high).contains(level));
        ensure!(level.is_some(), "{name} has levels from {low} to {high}");
        Ok(Self { compression, level })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.compression.fmt(f)?;
        self.level.map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

/// Compresses what is written to it; [`Encoder::finish`] must be called.
pub enum Encoder<W: Write> {
    /// As it is.
    None(W),
    /// RFC 1952
    Gzip(flate2::write::GzEncoder<W>),
    /// RFC 8878
    Zstd(zstd::Encoder<'static, W>),
    /// With CRC32 checks.
    Xz(liblzma::write::XzEncoder<W>),
    /// Legacy container.
    Lz4(Lz4Encoder<W>),
}

impl<W: Write> Encoder<W> {
    /// Compresses to `out`; in this thread where `threads` is 0. gzip and lz4
    /// always do.
    ///
    /// # Errors
    /// Lack of memory or threads.
    pub fn new(out: W, method: Method, threads: u32) -> Result<Self> {
        let usual = method.compression.container().and_then(|container| container.levels);
        let level = method.level.or(usual.map(|(_, usual, _)| usual)).unwrap_or_default();
        let unsigned = u32::try_from(level).unwrap_or_default();
        Ok(match method.compression {
            Compression::None => Self::None(out),
            Compression::Gzip => {
                let level = flate2::Compression::new(unsigned);
                Self::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, level).context("zstd")?;
                if threads > 0 {
                    encoder.multithread(threads).context("zstd: threads")?;
                    encoder
                        .set_parameter(CParameter::JobSize(ZSTD_PART))
                        .context("zstd: size of parts")?;
                }
                Self::Zstd(encoder)
            }
            Compression::Xz => {
                let stream = match threads {
                    0 => Stream::new_easy_encoder(unsigned, Check::Crc32),
                    _ => MtStreamBuilder::new()
                        .threads(threads)
                        .block_size(XZ_PART)
                        .preset(unsigned)
                        .check(Check::Crc32)
                        .encoder(),
                };
                Self::Xz(liblzma::write::XzEncoder::new_stream(out, stream.context("xz")?))
            }
            Compression::Lz4 => Self::Lz4(Lz4Encoder::new(out)?),
        })
    }

    /// Writes what is still to come.
    ///
    /// # Errors
    /// Those of what it writes to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Lz4(encoder) => encoder.finish(),
        }
    }

    fn inner(&mut self) -> &mut dyn Write {
        match self {
            Self::None(out) => out,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
            Self::Xz(encoder) => encoder,
            Self::Lz4(encoder) => encoder,
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner().flush()
    }
}
