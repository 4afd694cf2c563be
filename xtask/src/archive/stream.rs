//! The containers of [`super::compress`] as streams: an archive need not fit in
//! memory.
//!
//! How many threads there are never shows in the bytes: zstd and xz cut what
//! they are given into parts of one size, whoever compresses them.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use liblzma::stream::{Check, MtStreamBuilder, Stream};
use zstd::zstd_safe::CParameter;

use super::compress::Compression;
use super::spool::TooLarge;

/// First bytes of a legacy lz4 file, little endian.
const LZ4_LEGACY_MAGIC: u32 = 0x184C_2102;
/// Uncompressed bytes in each block of a legacy lz4 file but the last.
pub(super) const LZ4_LEGACY_BLOCK: usize = 8 << 20;
/// Memory that an xz file may ask for: `xz -9` takes 65 MiB. zstd has a limit of
/// its own, a window of 128 MiB.
const XZ_MEMORY_MAX: u64 = 128 << 20;
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
    Container { compression: Compression::Gzip, magic: &[0x1f, 0x8b],                       levels: Some((1, 6, 9)) },
    Container { compression: Compression::Xz,   magic: &[0xfd, b'7', b'z', b'X', b'Z', 0],  levels: Some((0, 6, 9)) },
    Container { compression: Compression::Zstd, magic: &[0x28, 0xb5, 0x2f, 0xfd],           levels: Some((1, 3, 19)) },
    Container { compression: Compression::Lz4,  magic: &LZ4_LEGACY_MAGIC.to_le_bytes(),     levels: Some((1, 1, 12)) },
];

impl Compression {
    /// The container that bytes starting with `head` are in.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        let found = CONTAINERS.iter().find(|container| head.starts_with(container.magic));
        found.map_or(Self::None, |container| container.compression)
    }

    fn container(self) -> Option<&'static Container> {
        CONTAINERS.iter().find(|container| container.compression == self)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
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
        let variants = Compression::value_variants().iter();
        let mut methods: Vec<_> =
            variants.map(|&compression| (compression.to_string(), compression, None)).collect();
        methods.push((LZ4HC.0.into(), Compression::Lz4, Some(LZ4HC.1)));
        let found = methods.iter().find(|(known, ..)| known == name);
        let Some(&(_, compression, usual)) = found else {
            let names: Vec<_> = methods.iter().map(|(name, ..)| name.as_str()).collect();
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

/// Magic, then blocks, each behind its compressed length (32 bits, little
/// endian).
pub struct Lz4Encoder<W> {
    out: W,
    block: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> Lz4Encoder<W> {
    fn new(mut out: W) -> Result<Self> {
        out.write_all(&LZ4_LEGACY_MAGIC.to_le_bytes()).context("lz4")?;
        Ok(Self { out, block: Vec::new(), packed: Vec::new() })
    }

    fn write_block(&mut self) -> io::Result<()> {
        self.packed.resize(lz4_flex::block::get_maximum_output_size(self.block.len()), 0);
        let size = lz4_flex::block::compress_into(&self.block, &mut self.packed);
        let size = size.map_err(io::Error::other)?;
        let length = u32::try_from(size).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.packed[..size])?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Lz4Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(LZ4_LEGACY_BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == LZ4_LEGACY_BLOCK {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Copies to `out` what is in the container that `input` starts with, and leaves
/// what follows it; parts made side by side (pigz), which follow each other
/// without a gap, count as one. Gives the number of bytes, or `None` where `input`
/// is in no container.
///
/// # Errors
/// Damaged or truncated data, or contents of more than `limit` bytes.
pub fn decompress(input: &mut dyn BufRead, out: &mut dyn Write, limit: u64) -> Result<Option<u64>> {
    let compression = Compression::of(input.fill_buf()?);
    if compression == Compression::None {
        return Ok(None);
    }
    let mut total = 0;
    let mut part = || {
        // One byte more shows that there are too many.
        let room = limit.saturating_add(1) - total;
        let mut reader = reader(compression, input)?.take(room);
        total += io::copy(&mut reader, out).context("damaged or truncated")?;
        drop(reader);
        ensure!(total <= limit, TooLarge { limit });
        // The kernel takes no second xz file that directly follows one.
        let repeats = matches!(compression, Compression::Gzip | Compression::Zstd);
        anyhow::Ok(repeats && Compression::of(input.fill_buf()?) == compression)
    };
    while part().with_context(|| compression.to_string())? {}
    Ok(Some(total))
}

/// What the first part of a container holds.
///
/// # Errors
/// Lack of memory.
pub fn reader<'a>(
    compression: Compression,
    input: &'a mut dyn BufRead,
) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(input)?.single_frame()),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, 0)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Compression::Lz4 => {
            input.consume(LZ4_LEGACY_MAGIC.to_le_bytes().len());
            Box::new(Lz4Decoder { input, packed: Vec::new(), block: Vec::new(), at: 0 })
        }
    })
}

/// Reads blocks up to a length of 0, which is padding, or the end.
struct Lz4Decoder<'a> {
    input: &'a mut dyn BufRead,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
}

impl Lz4Decoder<'_> {
    /// Whether there is one more block.
    fn next_block(&mut self) -> io::Result<bool> {
        let damaged = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text);
        let Some(length) = self.length()? else { return Ok(false) };
        let most = lz4_flex::block::get_maximum_output_size(LZ4_LEGACY_BLOCK);
        if length > most {
            return Err(damaged("a block is too long"));
        }
        self.packed.resize(length, 0);
        self.input.read_exact(&mut self.packed)?;
        self.block.resize(LZ4_LEGACY_BLOCK, 0);
        let size = lz4_flex::block::decompress_into(&self.packed, &mut self.block);
        let size = size.map_err(|_| damaged("a block does not unpack"))?;
        self.block.truncate(size);
        self.at = 0;
        Ok(true)
    }

    /// Of the next block; one file may be behind another.
    fn length(&mut self) -> io::Result<Option<usize>> {
        loop {
            let ahead = self.input.fill_buf()?;
            if let Some([0, 0, 0, 0]) = ahead.first_chunk::<4>() {
                return Ok(None);
            }
            let mut length = [0; 4];
            for (index, place) in length.iter_mut().enumerate() {
                match self.input.fill_buf()?.first() {
                    Some(byte) => *place = *byte,
                    None if length[..index].iter().all(|&byte| byte == 0) => return Ok(None),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
                self.input.consume(1);
            }
            match u32::from_le_bytes(length) {
                0 => return Ok(None),
                LZ4_LEGACY_MAGIC => {}
                length => return Ok(usize::try_from(length).ok()),
            }
        }
    }
}

impl Read for Lz4Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if buffer.is_empty() || !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
