//! Blocks compressed and unpacked, each on its own; no I/O.
//!
//! | Compressor | Form | The kernel wants (`fs/squashfs/*_wrapper.c`) |
//! |---|---|---|
//! | gzip | zlib, RFC 1950 | |
//! | lzo | bare | read only |
//! | xz | .xz with CRC32 | a dictionary not larger than a block |
//! | lz4 | bare | its options: version 1 |
//! | zstd | RFC 8878 | a window not larger than a block |

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use liblzma::stream::{self, Action, Check, Filters, LzmaOptions, Stream};
use zstd::zstd_safe::CParameter;

use super::layout::METADATA_PLAIN;

/// What packs blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compressor {
    /// What every kernel with squashfs unpacks.
    #[default]
    Gzip,
    /// Neither written nor read: no kernel has it.
    Lzma,
    /// Read, but not written.
    Lzo,
    /// Smallest, and slowest to read.
    Xz,
    /// Quickest to read, and largest.
    Lz4,
    /// Smaller than gzip, and quicker to read.
    Zstd,
}

/// With their numbers in a superblock, their names, and their usual levels: those
/// of mksquashfs(1), but for gzip, whose 9 takes three times as long and saves a
/// hundredth.
#[rustfmt::skip]
const COMPRESSORS: &[(Compressor, u16, &str, i32)] = &[
    (Compressor::Gzip, 1, "gzip", 6),
    (Compressor::Lzma, 2, "lzma", 0),
    (Compressor::Lzo,  3, "lzo",  0),
    (Compressor::Xz,   4, "xz",   6),
    (Compressor::Lz4,  5, "lz4",  0),
    (Compressor::Zstd, 6, "zstd", 15),
];

/// Memory to unpack a block of xz, whose dictionary has 1 MiB at most.
const XZ_MEMORY_MAX: u64 = 4 << 20;

/// Options of lz4 in a metadata block that is not compressed: version 1, no flags.
const LZ4_OPTIONS: [u8; 10] = {
    let [low, high] = (8 | METADATA_PLAIN).to_le_bytes();
    [low, high, 1, 0, 0, 0, 0, 0, 0, 0]
};

impl Compressor {
    fn row(self) -> (u16, &'static str, i32) {
        let row = COMPRESSORS.iter().find(|row| row.0 == self);
        row.map_or((0, "", 0), |&(_, number, name, level)| (number, name, level))
    }

    pub(super) fn number(self) -> u16 {
        self.row().0
    }

    /// As people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    pub(super) fn by_number(number: u16) -> Result<Self> {
        let row = COMPRESSORS.iter().find(|row| row.1 == number);
        let row = row.with_context(|| format!("not supported: compressor {number}"))?;
        ensure!(
            row.0 != Self::Lzma,
            "not supported: squashfs with lzma, which no Linux mounts; unsquashfs unpacks it"
        );
        Ok(row.0)
    }

    /// What follows the superblock, if anything has to.
    pub(super) fn options(self) -> &'static [u8] {
        if self == Self::Lz4 { &LZ4_OPTIONS } else { &[] }
    }

    /// Unpacks `packed` to the start of `out`; tells how many bytes that were.
    ///
    /// # Errors
    /// What is damaged, or more than `out` holds.
    pub(super) fn unpack(self, packed: &[u8], out: &mut [u8]) -> Result<usize> {
        let size = match self {
            Self::Gzip => {
                let mut inflate = Decompress::new(true);
                let status = inflate.decompress(packed, out, FlushDecompress::Finish);
                let size = usize::try_from(inflate.total_out()).ok();
                size.filter(|_| matches!(status, Ok(Status::StreamEnd)))
            }
            Self::Xz => {
                let mut stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, 0).context("xz")?;
                let status = stream.process(packed, out, Action::Finish);
                let size = usize::try_from(stream.total_out()).ok();
                size.filter(|_| matches!(status, Ok(stream::Status::StreamEnd)))
            }
            Self::Lz4 => lz4_flex::block::decompress_into(packed, out).ok(),
            Self::Zstd => zstd::bulk::decompress_to_buffer(packed, out).ok(),
            Self::Lzo => lzokay::decompress::decompress(packed, out).ok(),
            Self::Lzma => None,
        };
        size.with_context(|| format!("a block of {} does not unpack", self.name()))
    }
}

/// A block as it is stored.
#[derive(Debug)]
pub(super) struct Packed {
    pub bytes: Vec<u8>,
    /// Whether they are other than they were.
    pub is_packed: bool,
}

/// What a thread needs to compress.
pub(super) struct Packer {
    state: State,
    /// Room for a block that got larger.
    room: Vec<u8>,
}

enum State {
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
    Xz(Filters),
    Lz4,
}

impl Packer {
    /// For blocks up to `1 << block_log` bytes.
    ///
    /// # Errors
    /// A compressor that is only read; lack of memory.
    pub(super) fn new(compressor: Compressor, level: Option<i32>, block_log: u16) -> Result<Self> {
        let (_, name, usual) = compressor.row();
        let level = level.unwrap_or(usual);
        let unsigned = u32::try_from(level).unwrap_or_default();
        let state = match compressor {
            Compressor::Gzip => State::Gzip(Compress::new(Compression::new(unsigned), true)),
            Compressor::Zstd => {
                let mut zstd = zstd::bulk::Compressor::new(level).context("zstd")?;
                zstd.set_parameter(CParameter::WindowLog(block_log.into())).context("zstd")?;
                State::Zstd(zstd)
            }
            Compressor::Xz => {
                let mut options = LzmaOptions::new_preset(unsigned).context("xz")?;
                options.dict_size(1 << block_log);
                let mut filters = Filters::new();
                filters.lzma2(&options);
                State::Xz(filters)
            }
            Compressor::Lz4 => State::Lz4,
            Compressor::Lzma | Compressor::Lzo => bail!("{name} is not written here"),
        };
        Ok(Self { state, room: Vec::new() })
    }

    /// `bytes` as they are stored: as they are where packing saves nothing.
    ///
    /// # Errors
    /// Those of the compressor.
    pub(super) fn pack(&mut self, bytes: Vec<u8>) -> Result<Packed> {
        Ok(match self.packed_size(&bytes)? {
            Some(size) if size < bytes.len() => {
                Packed { bytes: self.room[..size].to_vec(), is_packed: true }
            }
            _ => Packed { bytes, is_packed: false },
        })
    }

    /// Packs to the start of `room`; `None` where that is too small.
    fn packed_size(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let room = match &self.state {
            State::Gzip(_) | State::Xz(_) => bytes.len(),
            State::Zstd(_) => zstd::zstd_safe::compress_bound(bytes.len()),
            State::Lz4 => lz4_flex::block::get_maximum_output_size(bytes.len()),
        };
        self.room.resize(room, 0);
        let room = &mut self.room;
        Ok(match &mut self.state {
            State::Gzip(deflate) => {
                deflate.reset();
                let status =
                    deflate.compress(bytes, room, FlushCompress::Finish).context("gzip")?;
                let size = usize::try_from(deflate.total_out())?;
                (status == Status::StreamEnd).then_some(size)
            }
            State::Zstd(zstd) => {
                Some(zstd.compress_to_buffer(bytes, &mut room[..]).context("zstd")?)
            }
            State::Xz(filters) => {
                let mut stream = Stream::new_stream_encoder(filters, Check::Crc32).context("xz")?;
                let status = stream.process(bytes, room, Action::Finish).context("xz")?;
                let size = usize::try_from(stream.total_out())?;
                (status == stream::Status::StreamEnd).then_some(size)
            }
            State::Lz4 => Some(lz4_flex::block::compress_into(bytes, room).context("lz4")?),
        })
    }
}
