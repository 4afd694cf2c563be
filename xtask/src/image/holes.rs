//! Contents that are read in parts, with what is a hole skipped.
//!
//! Interface: lseek(2) with `SEEK_DATA`. What counts for an image is that bytes
//! are zero, not how the source stored them, so that a directory and an archive of
//! it give equal images: where a source knows of a hole only saves reading it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::content::Content;

/// Contents of which parts are skipped.
pub(super) enum Source<'a> {
    /// Can be read anywhere, and may know its holes.
    File(File),
    /// With the bytes that were read so far.
    Stream(Box<dyn Read + Send + 'a>, u64),
}

impl<'a> Source<'a> {
    pub(super) fn open(content: &'a Content) -> Result<Self> {
        Ok(match content.host_file()? {
            Some(file) => Self::File(file),
            None => Self::Stream(content.open()?, 0),
        })
    }

    /// Fills `buffer` with what is at `at`, not before the end of the last read.
    pub(super) fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, at).context("read"),
            Self::Stream(stream, position) => {
                let skipped = stream.by_ref().take(at.saturating_sub(*position));
                io::copy(&mut { skipped }, &mut io::sink()).context("read")?;
                *position = at + buffer.len() as u64;
                stream.read_exact(buffer).context("read")
            }
        }
    }

    /// The first multiple of `block`, but not below `at`, from which on there may
    /// be data; `size` where there is none.
    pub(super) fn next_data(&self, at: u64, size: u64, block: u64) -> u64 {
        let Self::File(file) = self else { return at };
        let Ok(offset) = i64::try_from(at) else { return at };
        match lseek(file, offset, Whence::SeekData) {
            Ok(found) => u64::try_from(found).map_or(at, |found| found / block * block),
            Err(Errno::ENXIO) => size,
            // Not every file system can tell.
            Err(_) => at,
        }
        .max(at)
    }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}
