//! Compressing into the containers as a stream: the data need not fit in memory.
//!
//! Interfaces: the crates `flate2`, `zstd` and `liblzma`; `lz4` of this room.
//!
//! Invariant: the number of threads never changes the output. zstd and xz cut the input
//! into parts of a fixed size, and one thread compresses one part.

use std::io::{self, Write};

use anyhow::{Context, Result};
use liblzma::stream::{Check, MtStreamBuilder, Stream};
use zstd::zstd_safe::CParameter;

use super::container::{Compression, Method};
use super::lz4::Lz4Encoder;

/// Bytes of input in one part of xz. A larger part needs more memory in every thread, a
/// smaller one makes the output larger.
const XZ_PART: u64 = 8 << 20;
/// Bytes of input in one part of zstd.
const ZSTD_PART: u32 = 2 << 20;

/// Level of zstd for data that a guest unpacks at boot: up to this level the window
/// is 4 MiB or less.
const ZSTD_BOOT_LEVEL: i32 = 9;

/// Writer that compresses. [`Encoder::finish`] must be called at the end.
pub enum Encoder<W: Write> {
    /// Copies the data unchanged.
    None(W),
    /// RFC 1952
    Gzip(flate2::write::GzEncoder<W>),
    /// RFC 8878
    Zstd(zstd::Encoder<'static, W>),
    /// The .xz File Format, with CRC32 checks.
    Xz(liblzma::write::XzEncoder<W>),
    /// The legacy container.
    Lz4(Lz4Encoder<W>),
}

impl<W: Write> Encoder<W> {
    /// An encoder that writes to `out`. With `threads` = 0 the calling thread
    /// compresses; gzip and lz4 never use other threads.
    ///
    /// # Errors
    /// Lack of memory or threads; errors of writing to `out`.
    pub fn new(out: W, method: Method, threads: u32) -> Result<Self> {
        let usual = method.compression.levels().map(|levels| levels.usual);
        let level = method.level.or(usual).unwrap_or_default();
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

    /// Writes the data that the encoder still holds, and the end of the container.
    ///
    /// # Errors
    /// Errors of writing to the underlying writer.
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

/// Compresses `bytes` for a guest that unpacks them at boot.
///
/// # Errors
/// Those of [`Encoder::new`].
pub fn compress(bytes: Vec<u8>, compression: Compression) -> Result<Vec<u8>> {
    if compression == Compression::None {
        return Ok(bytes);
    }
    let level = (compression == Compression::Zstd).then_some(ZSTD_BOOT_LEVEL);
    let method = Method { compression, level };
    let mut encoder = Encoder::new(Vec::new(), method, 0)?;
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?)
}
