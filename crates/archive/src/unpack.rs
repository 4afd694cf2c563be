//! Reading the containers of [`super::compress`]: all that follow each other.
//!
//! A compressed file may have any number of parts, whose contents follow each
//! other: members of gzip (RFC 1952 §2.2), streams of xz, frames of zstd, as pigz,
//! pixz and pzstd write them. Between parts there may be padding, NULs (The .xz File
//! Format §2.2; the kernel skips any number of them behind each kind), and skippable
//! frames of zstd (RFC 8878 §3.1.2). Neither ends the contents. The input is not
//! trusted.

use std::io::{self, BufRead, Read, Write};
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail, ensure};
use liblzma::stream::Stream;

use super::bytes::is_zero;
use super::compress::Compression;
use super::lz4::Lz4Decoder;
use super::spool::TooLarge;

/// Memory that an xz file may ask for: `xz -9` takes 65 MiB. zstd has a limit of
/// its own, a window of 128 MiB.
const XZ_MEMORY_MAX: u64 = 128 << 20;
/// Bytes of padding that are skipped at the most, some seconds: a file that is a hole of
/// terabytes must not take hours.
const PADDING_MAX: u64 = 16 << 30;
/// Bytes by which a container is recognised; the longest magic has six.
const PEEK: usize = 8;
/// Bytes unpacked at a time.
const BUFFER: usize = 1 << 16;

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The first container.
    pub compression: Compression,
    /// Bytes of contents.
    pub size: u64,
    /// Offset of what follows the containers and their padding: neither of them, or
    /// the end of the input.
    pub end: u64,
}

/// Copies to `out` the contents of the containers that `input` starts with. `None`
/// where it starts with no container. `input` itself may be read some bytes beyond
/// [`Unpacked::end`].
///
/// # Errors
/// Damaged or truncated data, with its offset; contents of more than `limit` bytes;
/// those of `out`.
pub fn unpack(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    limit: u64,
) -> Result<Option<Unpacked>> {
    let mut size = 0;
    let found = parts(input, &mut |bytes| {
        size += bytes.len() as u64;
        ensure!(size <= limit, TooLarge { limit });
        out.write_all(bytes).context("write what was unpacked")?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found.map(|(compression, end)| Unpacked { compression, size, end }))
}

/// The container of `input`, and the first `size` bytes of what is in it, or all
/// where there are fewer. `None` where it starts with no container.
///
/// # Errors
/// As those of [`unpack`].
pub fn head(input: &mut dyn BufRead, size: usize) -> Result<Option<(Compression, Vec<u8>)>> {
    let mut head = Vec::new();
    let found = parts(input, &mut |bytes| {
        head.extend_from_slice(&bytes[..bytes.len().min(size - head.len())]);
        let is_full = head.len() == size;
        Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found.map(|(compression, _)| (compression, head)))
}

/// Consumes the NULs that `input` starts with; gives their number.
///
/// # Errors
/// More than 16 GiB of them.
pub fn skip_padding(input: &mut dyn BufRead) -> Result<u64> {
    skip_at_most(input, PADDING_MAX)
}

fn skip_at_most(input: &mut dyn BufRead, limit: u64) -> Result<u64> {
    let mut skipped = 0;
    loop {
        let ahead = input.fill_buf()?;
        // Much faster than looking at each byte.
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

/// Gets the contents of all parts, piece by piece.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>;

/// Hands the contents of all parts to `sink` until `sink` has enough. Gives the first
/// container, and the offset at which reading ended.
fn parts(input: &mut dyn BufRead, sink: Sink<'_>) -> Result<Option<(Compression, u64)>> {
    let mut input = Input { inner: input, at: 0, ahead: Vec::new() };
    let mut first = None;
    loop {
        let compression = Compression::of(input.peek()?);
        if compression == Compression::None {
            return Ok(first.map(|first| (first, input.at)));
        }
        let (first, start) = (*first.get_or_insert(compression), input.at);
        let part = part(compression, &mut input, sink);
        if part.with_context(|| format!("{compression} at offset {start}"))?.is_break() {
            return Ok(Some((first, input.at)));
        }
        let behind = input.at;
        skip_padding(&mut input).with_context(|| format!("offset {behind}"))?;
    }
}

fn part(
    compression: Compression,
    input: &mut Input<'_>,
    sink: Sink<'_>,
) -> Result<ControlFlow<()>> {
    let mut reader = reader(compression, input)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.context("damaged or truncated")?,
        };
        if sink(&buffer[..count])?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// The contents of the one part that `input` starts with.
fn reader<'a>(compression: Compression, input: &'a mut Input<'_>) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => bail!("not compressed"),
        Compression::Gzip => Box::new(flate2::bufread::GzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(input)?.single_frame()),
        Compression::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, 0)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Compression::Lz4 => Box::new(Lz4Decoder::new(input)),
    })
}

/// Input that knows where it is, and that can be looked at without being consumed:
/// a magic may be on both sides of a buffer's end.
struct Input<'a> {
    inner: &'a mut dyn BufRead,
    /// Bytes consumed.
    at: u64,
    /// Bytes that were taken from `inner`, but are not consumed.
    ahead: Vec<u8>,
}

impl Input<'_> {
    /// The next [`PEEK`] bytes, or those that are left.
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
    use std::io::BufReader;

    const LIMIT: u64 = 1 << 20;
    const ALL: [Compression; 4] =
        [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4];
    /// With three bytes in it.
    const SKIPPABLE: &[u8] = b"\x5a\x2a\x4d\x18\x03\0\0\0abc";

    fn packed(text: &str, compression: Compression) -> Vec<u8> {
        compress(text.into(), compression).unwrap()
    }

    fn unpacked(bytes: &[u8]) -> (String, u64) {
        let mut all = Vec::new();
        let found = unpack(&mut { bytes }, &mut all, LIMIT).unwrap().unwrap();
        // A magic may be cut by any buffer's end.
        for size in [1, 3, 7] {
            let mut again = Vec::new();
            let mut input = BufReader::with_capacity(size, bytes);
            assert_eq!(unpack(&mut input, &mut again, LIMIT).unwrap(), Some(found), "{size}");
            assert_eq!(again, all, "{size}");
        }
        (String::from_utf8(all).unwrap(), found.end)
    }

    #[test]
    fn all_parts_are_read_whatever_is_between_them() {
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
    fn what_follows_is_left_and_a_cut_part_is_an_error() {
        for compression in ALL {
            let part = packed("one", compression);
            // Four NULs end lz4; any number of them is skipped.
            let bytes = [&part[..], &[0; 4], b"07"].concat();
            assert_eq!(unpacked(&bytes), ("one".to_owned(), bytes.len() as u64 - 2));
            for length in (7..part.len()).step_by(5) {
                let cut = [&part[..], &[0; 4], &part[..length]].concat();
                let error = unpack(&mut &cut[..], &mut io::sink(), LIMIT);
                // lz4 has no end mark: a cut between blocks is not seen.
                let is_seen = error.is_err() || (compression == Compression::Lz4 && length < 8);
                assert!(is_seen, "{compression} cut at {length}");
            }
        }
        let damaged = [&packed("one", Compression::Xz)[..], &[0; 4], b"\xfd7zXZ\0bad"].concat();
        let error = unpack(&mut &damaged[..], &mut io::sink(), LIMIT).unwrap_err();
        assert_eq!(error.to_string(), format!("xz at offset {}", damaged.len() - 9));
    }

    #[test]
    fn padding_has_a_bound() {
        let mut endless = BufReader::new(io::repeat(0));
        let error = skip_at_most(&mut endless, 1 << 20).unwrap_err();
        assert!(error.to_string().contains("of padding"), "{error}");
    }
}
