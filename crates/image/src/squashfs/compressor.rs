//! Compressors of squashfs. Each block is compressed and unpacked on its own.
//!
//! Nothing here does I/O. The kernel has these demands (`fs/squashfs/*_wrapper.c`):
//!
//! | Compressor | Format of a block | Demand |
//! |---|---|---|
//! | gzip | zlib, RFC 1950 | |
//! | lzo | LZO1X without a header; we only read it | |
//! | xz | .xz with CRC32 | the dictionary is not larger than a block |
//! | lz4 | LZ4 block without a header | options follow the superblock |
//! | zstd | RFC 8878 | the window is not larger than a block |

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use liblzma::stream::{self, Action, Check, Filters, LzmaOptions, Stream};
use zstd::zstd_safe::CParameter;

/// Compressor of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compressor {
    /// zlib, which every kernel with squashfs can unpack.
    #[default]
    Gzip,
    /// Neither written nor read, because no kernel supports it.
    Lzma,
    /// Only read.
    Lzo,
    /// Makes the smallest image, which is the slowest to read.
    Xz,
    /// Makes the largest image, which is the quickest to read.
    Lz4,
    /// Makes a smaller image than gzip, which is also quicker to read.
    Zstd,
}

/// All compressors with their numbers (`ZLIB_COMPRESSION` and others), names and usual
/// levels. The levels are those of mksquashfs(1), except for gzip: its level 9 takes three
/// times as long as level 6 and saves one percent.
#[rustfmt::skip]
const COMPRESSORS: &[(Compressor, u16, &str, i32)] = &[
    (Compressor::Gzip, 1, "gzip", 6),
    (Compressor::Lzma, 2, "lzma", 0),
    (Compressor::Lzo,  3, "lzo",  0),
    (Compressor::Xz,   4, "xz",   6),
    (Compressor::Lz4,  5, "lz4",  0),
    (Compressor::Zstd, 6, "zstd", 15),
];

/// Most memory for unpacking a block of xz, in bytes. Its dictionary has at most 1 MiB.
const XZ_MEMORY_MAX: u64 = 4 << 20;

impl Compressor {
    /// Number, name and usual level.
    fn row(self) -> (u16, &'static str, i32) {
        let row = COMPRESSORS.iter().find(|row| row.0 == self);
        row.map_or((0, "", 0), |&(_, number, name, level)| (number, name, level))
    }

    /// Number in the superblock (`compression`).
    pub(super) fn number(self) -> u16 {
        self.row().0
    }

    /// Name, as in the option `-comp` of mksquashfs(1).
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Finds a compressor by its number in the superblock.
    ///
    /// # Errors
    /// The number is unknown, or that of lzma.
    pub(super) fn by_number(number: u16) -> Result<Self> {
        let row = COMPRESSORS.iter().find(|row| row.1 == number);
        let row = row.with_context(|| {
            format!("not supported: squashfs with the unknown compressor {number}")
        })?;
        ensure!(
            row.0 != Self::Lzma,
            "not supported: squashfs with lzma, which no Linux mounts; unsquashfs unpacks it"
        );
        Ok(row.0)
    }

    /// Unpacks `packed` to the start of `out`, and returns the unpacked size.
    ///
    /// # Errors
    /// The block is damaged, or unpacks to more bytes than `out` has.
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
        size.with_context(|| format!("a block of {} is damaged", self.name()))
    }
}

/// Block in its stored form.
#[derive(Debug)]
pub(super) struct PackedBlock {
    /// Stored bytes.
    pub bytes: Vec<u8>,
    /// Whether the bytes are compressed.
    pub is_packed: bool,
}

/// Compressor state of one thread.
pub(super) struct Packer {
    state: PackerState,
    /// Output buffer; a block may grow when it is compressed.
    room: Vec<u8>,
}

/// State for each compressor that we write.
enum PackerState {
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
    Xz(Filters),
    Lz4,
}

impl Packer {
    /// Packer for blocks of up to `1 << block_log` bytes. `None` takes the usual level.
    ///
    /// # Errors
    /// We only read this compressor, or memory is short.
    pub(super) fn new(compressor: Compressor, level: Option<i32>, block_log: u16) -> Result<Self> {
        let (_, name, usual) = compressor.row();
        let level = level.unwrap_or(usual);
        let unsigned = u32::try_from(level).unwrap_or_default();
        let state = match compressor {
            Compressor::Gzip => PackerState::Gzip(Compress::new(Compression::new(unsigned), true)),
            Compressor::Zstd => {
                let mut zstd = zstd::bulk::Compressor::new(level).context("zstd")?;
                zstd.set_parameter(CParameter::WindowLog(block_log.into())).context("zstd")?;
                PackerState::Zstd(zstd)
            }
            Compressor::Xz => {
                let mut options = LzmaOptions::new_preset(unsigned).context("xz")?;
                options.dict_size(1 << block_log);
                let mut filters = Filters::new();
                filters.lzma2(&options);
                PackerState::Xz(filters)
            }
            Compressor::Lz4 => PackerState::Lz4,
            Compressor::Lzma | Compressor::Lzo => {
                bail!("not supported: writing squashfs with {name}")
            }
        };
        Ok(Self { state, room: Vec::new() })
    }

    /// Compresses a block. If that saves nothing, the block stays as it is.
    ///
    /// # Errors
    /// The compressor fails.
    pub(super) fn pack(&mut self, bytes: Vec<u8>) -> Result<PackedBlock> {
        Ok(match self.packed_size(&bytes)? {
            Some(size) if size < bytes.len() => {
                PackedBlock { bytes: self.room[..size].to_vec(), is_packed: true }
            }
            _ => PackedBlock { bytes, is_packed: false },
        })
    }

    /// Compresses to the start of `room`, and returns the size. `None` if the room is too
    /// small.
    fn packed_size(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let room = match &self.state {
            PackerState::Gzip(_) | PackerState::Xz(_) => bytes.len(),
            PackerState::Zstd(_) => zstd::zstd_safe::compress_bound(bytes.len()),
            PackerState::Lz4 => lz4_flex::block::get_maximum_output_size(bytes.len()),
        };
        self.room.resize(room, 0);
        let room = &mut self.room;
        Ok(match &mut self.state {
            PackerState::Gzip(deflate) => {
                deflate.reset();
                let status =
                    deflate.compress(bytes, room, FlushCompress::Finish).context("gzip")?;
                let size = usize::try_from(deflate.total_out())?;
                (status == Status::StreamEnd).then_some(size)
            }
            PackerState::Zstd(zstd) => {
                Some(zstd.compress_to_buffer(bytes, &mut room[..]).context("zstd")?)
            }
            PackerState::Xz(filters) => {
                let mut stream = Stream::new_stream_encoder(filters, Check::Crc32).context("xz")?;
                let status = stream.process(bytes, room, Action::Finish).context("xz")?;
                let size = usize::try_from(stream.total_out())?;
                (status == stream::Status::StreamEnd).then_some(size)
            }
            PackerState::Lz4 => Some(lz4_flex::block::compress_into(bytes, room).context("lz4")?),
        })
    }
}
