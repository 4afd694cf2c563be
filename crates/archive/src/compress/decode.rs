//! Decompressing files that consist of one container or of several, one after another.
//!
//! A compressed file may have any number of parts: members of gzip (RFC 1952 §2.2),
//! streams of xz, frames of zstd. pigz, pixz and pzstd write such files. The contents of
//! the file are the contents of all parts. Between parts there may be padding, which is
//! NUL bytes (The .xz File Format §2.2; the kernel skips any number of them after each
//! kind of container), and skippable frames of zstd (RFC 8878 §3.1.2). Padding does not
//! end the contents.
//!
//! The input is not trusted: memory and padding are bounded, and the caller bounds the
//! contents.

use std::io::{self, BufRead, Read, Write};
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail, ensure};
use liblzma::stream::Stream;
use zstd::zstd_safe::DCtx;

use super::container::Compression;
use super::lz4::Lz4Decoder;
use crate::bytes::is_zero;
use crate::spool::TooLarge;

/// Most bytes of memory for decoding an xz file; a file of `xz -9` needs 65 MiB. The
/// zstd library has its own limit, a window of 128 MiB.
const XZ_MEMORY_MAX: u64 = 128 << 20;
/// Most bytes of padding in one place; reading them takes some seconds. Without a limit,
/// a sparse file of terabytes would take hours.
const PADDING_MAX: u64 = 16 << 30;
/// Bytes that are read ahead to recognise a container; the longest magic has six.
const PEEK: usize = 8;
/// Bytes that are unpacked at a time.
const BUFFER: usize = 1 << 16;

/// Result of [`unpack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The container of the first part.
    pub compression: Compression,
    /// Number of bytes that were unpacked.
    pub size: u64,
    /// Offset of the first byte that is neither part of a container nor padding, or of
    /// the end of the input.
    pub end: u64,
}

/// Unpacks the containers at the start of `input` to `out`. Returns `None` if `input`
/// does not start with a container. `input` may be read some bytes beyond
/// [`Unpacked::end`].
///
/// # Errors
/// Damaged or truncated data, with its offset; [`TooLarge`] for contents of more than
/// `limit` bytes; errors of writing to `out`.
pub fn unpack(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    limit: u64,
) -> Result<Option<Unpacked>> {
    let mut size = 0;
    let found = parts(input, &mut |bytes| {
        size += bytes.len() as u64;
        ensure!(size <= limit, TooLarge { limit });
        out.write_all(bytes).context("write the unpacked data")?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found.map(|(compression, end)| Unpacked { compression, size, end }))
}

/// Returns the container at the start of `input` and the first `size` bytes of its
/// contents, or all of them if there are fewer. Returns `None` if `input` does not start
/// with a container.
///
/// # Errors
/// Damaged or truncated data, with its offset.
pub fn head(input: &mut dyn BufRead, size: usize) -> Result<Option<(Compression, Vec<u8>)>> {
    let mut head = Vec::new();
    let found = parts(input, &mut |bytes| {
        head.extend_from_slice(&bytes[..bytes.len().min(size - head.len())]);
        let is_full = head.len() == size;
        Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found.map(|(compression, _)| (compression, head)))
}

/// Unpacks the containers at the start of `bytes`. Returns their contents and the bytes
/// after the containers and their padding; `None` if `bytes` does not start with a
/// container.
///
/// # Errors
/// Damaged or truncated data, or contents of more than `limit` bytes.
pub fn decompress(bytes: &[u8], limit: u64) -> Result<Option<(Vec<u8>, &[u8])>> {
    let mut out = Vec::new();
    let found = unpack(&mut { bytes }, &mut out, limit)?;
    let rest = |unpacked: Unpacked| bytes.get(usize::try_from(unpacked.end).ok()?..);
    Ok(found.map(|unpacked| (out, rest(unpacked).unwrap_or_default())))
}

/// Like [`decompress`], for bytes that consist of containers and padding only.
///
/// # Errors
/// Those of [`decompress`]; other data after the containers, with its offset.
pub fn decompress_all(bytes: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
    let Some((contents, rest)) = decompress(bytes, limit)? else { return Ok(None) };
    ensure!(
        rest.is_empty(),
        "offset {}: neither compressed data nor padding follows",
        bytes.len() - rest.len()
    );
    Ok(Some(contents))
}

/// Skips the NUL bytes at the start of `input`. Returns their number.
///
/// # Errors
/// More than 16 GiB of NUL bytes.
pub fn skip_padding(input: &mut dyn BufRead) -> Result<u64> {
    skip_at_most(input, PADDING_MAX)
}

fn skip_at_most(input: &mut dyn BufRead, limit: u64) -> Result<u64> {
    let mut skipped = 0;
    loop {
        let ahead = input.fill_buf()?;
        // `is_zero` compares words, which is much faster than comparing each byte.
        let end = if is_zero(ahead) { None } else { ahead.iter().position(|&byte| byte != 0) };
        let count = end.unwrap_or(ahead.len());
        let is_over = end.is_some() || ahead.is_empty();
        input.consume(count);
        skipped += count as u64;
        if is_over {
            return Ok(skipped);
        }
        ensure!(skipped <= limit, "more than {} MiB of padding", limit >> 20);
    }
}

/// Receiver of the contents of all parts, piece by piece. It returns `Break` to end the
/// reading.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>;

/// Passes the contents of all parts to `sink` until `sink` breaks. Returns the container
/// of the first part and the offset at which reading ended; `None` if there is no part.
fn parts(input: &mut dyn BufRead, sink: Sink<'_>) -> Result<Option<(Compression, u64)>> {
    let mut input = Input { inner: input, at: 0, ahead: Vec::new() };
    let (mut first, mut kept) = (None, Kept { zstd: None, buffer: vec![0; BUFFER] });
    loop {
        let compression = Compression::of(input.peek()?);
        if compression == Compression::None {
            return Ok(first.map(|first| (first, input.at)));
        }
        let (first, start) = (*first.get_or_insert(compression), input.at);
        let part = part(compression, &mut input, &mut kept, sink);
        if part.with_context(|| format!("{compression} at offset {start}"))?.is_break() {
            return Ok(Some((first, input.at)));
        }
        let behind = input.at;
        skip_padding(&mut input).with_context(|| format!("offset {behind}"))?;
    }
}

/// Memory that all parts use, one after another: an archive may have a frame for each of its
/// files.
struct Kept {
    zstd: Option<DCtx<'static>>,
    buffer: Vec<u8>,
}

fn part(
    compression: Compression,
    input: &mut Input<'_>,
    kept: &mut Kept,
    sink: Sink<'_>,
) -> Result<ControlFlow<()>> {
    let mut reader = reader(compression, input, &mut kept.zstd)?;
    loop {
        let count = match reader.read(&mut kept.buffer) {
            Ok(0) => return Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.context("damaged or truncated")?,
        };
        if sink(&kept.buffer[..count])?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// A decoder of the one part at the start of `input`.
fn reader<'a>(
    compression: Compression,
    input: &'a mut Input<'_>,
    zstd: &'a mut Option<DCtx<'static>>,
) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => bail!("not compressed"),
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(input)),
        Compression::Zstd => {
            let context = match zstd {
                Some(context) => context,
                None => zstd.insert(DCtx::try_create().context("no memory for zstd")?),
            };
            Box::new(zstd::Decoder::with_context(input, context).single_frame())
        }
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, 0)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Compression::Lz4 => Box::new(Lz4Decoder::new(input)),
    })
}

/// Input that counts the consumed bytes, and whose next bytes can be read ahead. A plain
/// `BufRead` does not suffice: a magic may be split by the end of its buffer.
struct Input<'a> {
    inner: &'a mut dyn BufRead,
    /// Number of bytes consumed.
    at: u64,
    /// Bytes that were read from `inner`, but are not consumed yet.
    ahead: Vec<u8>,
}

impl Input<'_> {
    /// Returns the next [`PEEK`] bytes without consuming them, or fewer at the end.
    fn peek(&mut self) -> io::Result<&[u8]> {
        while self.ahead.len() < PEEK {
            let bytes = self.inner.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len().min(PEEK - self.ahead.len());
            self.ahead.extend_from_slice(&bytes[..count]);
            self.inner.consume(count);
        }
        Ok(&self.ahead)
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead.is_empty() { self.inner.fill_buf() } else { Ok(&self.ahead) }
    }

    fn consume(&mut self, count: usize) {
        self.at += count as u64;
        match self.ahead.is_empty() {
            true => self.inner.consume(count),
            false => drop(self.ahead.drain(..count.min(self.ahead.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::compress;
    use crate::compress::lz4::BLOCK;
    use proptest::prelude::*;
    use std::io::BufReader;

    const LIMIT: u64 = 1 << 20;
    const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4];
    /// A skippable frame of zstd with three bytes of data.
    const SKIPPABLE: &[u8] = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";

    fn packed(text: &str, compression: Compression) -> Vec<u8> {
        compress(text.into(), compression).unwrap()
    }

    fn unpacked(bytes: &[u8]) -> (String, u64) {
        let mut all = Vec::new();
        let found = unpack(&mut { bytes }, &mut all, LIMIT).unwrap().unwrap();
        // The end of a buffer may split a magic.
        for size in [1, 3, 7] {
            let mut again = Vec::new();
            let mut input = BufReader::with_capacity(size, bytes);
            assert_eq!(unpack(&mut input, &mut again, LIMIT).unwrap(), Some(found), "{size}");
            assert_eq!(again, all, "{size}");
        }
        (String::from_utf8(all).unwrap(), found.end)
    }

    #[test]
    fn all_parts_are_read_with_and_without_padding() {
        for compression in ALL {
            for padding in [0, 4, 513] {
                let parts = [
                    packed("one", compression),
                    vec![0; padding],
                    packed("", compression),
                    packed("two", compression),
                    vec![0; padding],
                ];
                let bytes = parts.concat();
                let expected = ("onetwo".to_owned(), bytes.len() as u64);
                assert_eq!(unpacked(&bytes), expected, "{compression}, {padding}");
            }
        }
        let mixed: Vec<u8> =
            ALL.iter().flat_map(|&one| [packed("x", one), vec![0; 4]].concat()).collect();
        assert_eq!(unpacked(&mixed), ("xxxx".to_owned(), mixed.len() as u64));
    }

    #[test]
    fn skippable_frames_are_skipped() {
        let frame = |text| packed(text, Compression::Zstd);
        let empty = b"\x50\x2a\x4d\x18\0\0\0\0".to_vec();
        for (name, parts) in [
            ("first", vec![SKIPPABLE.to_vec(), frame("ab")]),
            ("between", vec![frame("a"), SKIPPABLE.to_vec(), empty.clone(), frame("b")]),
            ("last", vec![frame("ab"), SKIPPABLE.to_vec()]),
            ("padded", vec![empty, vec![0; 8], frame("ab"), vec![0; 3], SKIPPABLE.to_vec()]),
        ] {
            let bytes = parts.concat();
            assert_eq!(unpacked(&bytes), ("ab".to_owned(), bytes.len() as u64), "{name}");
        }
        let cut = [frame("ab"), SKIPPABLE[..9].to_vec()].concat();
        assert!(unpack(&mut &cut[..], &mut io::sink(), LIMIT).is_err());
        let head = head(&mut &[SKIPPABLE, &frame("abc")].concat()[..], 2).unwrap();
        assert_eq!(head, Some((Compression::Zstd, b"ab".to_vec())));
    }

    #[test]
    fn data_after_the_parts_is_left_and_a_cut_part_is_an_error() {
        for compression in ALL {
            let part = packed("one", compression);
            // lz4 needs four NUL bytes as its end; any further NUL bytes are padding.
            let bytes = [&part[..], &[0; 4], b"07"].concat();
            assert_eq!(unpacked(&bytes), ("one".to_owned(), bytes.len() as u64 - 2));
            for length in (7..part.len()).step_by(5) {
                let cut = [&part[..], &[0; 4], &part[..length]].concat();
                let error = unpack(&mut &cut[..], &mut io::sink(), LIMIT);
                // lz4 has no end mark: a cut between two blocks cannot be noticed.
                let is_noticed = error.is_err() || (compression == Compression::Lz4 && length < 8);
                assert!(is_noticed, "{compression} cut at {length}");
            }
        }
        let damaged = [&packed("one", Compression::Xz)[..], &[0; 4], b"\xfd7zXZ\0bad"].concat();
        let error = unpack(&mut &damaged[..], &mut io::sink(), LIMIT).unwrap_err();
        assert_eq!(error.to_string(), format!("xz at offset {}", damaged.len() - 9));
    }

    #[test]
    fn padding_is_bounded() {
        let mut endless = BufReader::new(io::repeat(0));
        let error = skip_at_most(&mut endless, 1 << 20).unwrap_err();
        assert!(error.to_string().contains("of padding"), "{error}");
    }

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
    fn decompress_all_refuses_other_data() {
        for compression in ALL {
            let mut bytes = packed("contents", compression);
            bytes.extend([0; 8]);
            let contents = decompress_all(&bytes, LIMIT).unwrap().unwrap();
            assert_eq!(contents, b"contents", "{compression}");
            bytes.push(1);
            assert!(decompress_all(&bytes, LIMIT).is_err(), "{compression}");
        }
        assert_eq!(decompress_all(b"plain", LIMIT).unwrap(), None);
    }

    #[test]
    fn a_long_archive_takes_several_lz4_blocks() {
        let bytes: Vec<u8> = (0..BLOCK + 5).map(|byte| byte.to_le_bytes()[0]).collect();
        let packed = compress(bytes.clone(), Compression::Lz4).unwrap();
        assert!(decompress(&packed, 16 << 20).unwrap().unwrap().0 == bytes);
    }
}
