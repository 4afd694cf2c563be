//! Temporary copies of input that cannot be read by offset: compressed archives and
//! pipes.
//!
//! Interfaces: statvfs(3); `O_TMPFILE` of open(2), through the crate `tempfile`. A copy
//! has no name, so it is gone when this program ends. Writing a copy stops before the
//! file system is full, because other programs use that file system, too.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};

/// Bytes that are read or written at a time.
pub const BUFFER: usize = 1 << 18;

/// Bytes written between two checks of the free space.
const CHECKED_EVERY: u64 = 16 << 20;
/// Bytes that stay free on a large file system.
const FREE_MAX: u64 = 1 << 30;
/// Divisor for a small file system: 1/20 of it stays free.
const FREE_PART: u64 = 20;

/// Error for contents that are larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Most bytes that the caller allows.
    pub limit: u64,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limit } = self;
        match limit >> 20 {
            0 => write!(f, "unpacks to more than {limit} bytes"),
            mebibytes => write!(f, "unpacks to more than {mebibytes} MiB"),
        }
    }
}

impl std::error::Error for TooLarge {}

/// Spools the output of `body` into an unlinked file in `$TMPDIR`.
///
/// # Errors
/// Errors of `body`; a file system that is almost full.
pub fn spool(body: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<File> {
    let place = || format!("{} ($TMPDIR names another place)", std::env::temp_dir().display());
    let file = tempfile::tempfile().with_context(|| format!("make a file in {}", place()))?;
    let mut out = BufWriter::with_capacity(BUFFER, with_room(&file));
    let done = body(&mut out).and_then(|()| Ok(out.flush()?));
    // An error of reading the source has nothing to do with the place of the copy.
    match out.get_ref().has_failed {
        true => done.with_context(|| format!("unpack into {}", place()))?,
        false => done?,
    }
    drop(out);
    Ok(file)
}

/// Writer to `file`, from its position on, that fails before the file system is full. The error
/// has the kind [`io::ErrorKind::StorageFull`].
#[must_use]
pub fn careful(file: &File) -> impl Write {
    with_room(file)
}

fn with_room(file: &File) -> Careful<&File, impl Fn() -> io::Result<Room>> {
    let room = move || {
        let found = rustix::fs::fstatvfs(file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Room { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    };
    Careful { out: file, room, unchecked: 0, has_failed: false }
}

/// Free and total bytes of a file system.
#[derive(Clone, Copy, Debug)]
struct Room {
    free: u64,
    total: u64,
}

impl Room {
    /// Whether too few bytes are free to write more.
    fn is_scarce(self) -> bool {
        self.free < FREE_MAX.min(self.total / FREE_PART)
    }
}

/// Writer that fails before the file system is full.
struct Careful<W, F> {
    out: W,
    room: F,
    /// Bytes written since the last check.
    unchecked: u64,
    /// Whether a write has failed.
    has_failed: bool,
}

impl<W: Write, F: Fn() -> io::Result<Room>> Write for Careful<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_carefully(bytes);
        self.has_failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write, F: Fn() -> io::Result<Room>> Careful<W, F> {
    fn write_carefully(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unchecked >= CHECKED_EVERY {
            self.unchecked = 0;
            let room = (self.room)()?;
            if room.is_scarce() {
                let left = room.free >> 20;
                let text = format!("its file system is almost full: {left} MiB are left");
                return Err(io::Error::new(io::ErrorKind::StorageFull, text));
            }
        }
        let count = self.out.write(bytes)?;
        self.unchecked += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_file_system_stays_free() {
        const GIB: u64 = 1 << 30;
        for (name, free, total, is_scarce) in [
            ("large and empty", 400 * GIB, 500 * GIB, false),
            ("large, enough left", 2 * GIB, 500 * GIB, false),
            ("large, almost full", GIB - 1, 500 * GIB, true),
            ("small and empty", GIB / 2, GIB / 2, false),
            ("small, almost full", GIB / 50, GIB / 2, true),
            ("full", 0, GIB, true),
            ("of unknown size", 0, 0, false),
        ] {
            assert_eq!(Room { free, total }.is_scarce(), is_scarce, "{name}");
        }
    }

    #[test]
    fn only_an_error_of_writing_names_the_place_of_the_copy() {
        let error = spool(|out| {
            out.write_all(b"the beginning")?;
            anyhow::bail!("the source is damaged")
        });
        assert_eq!(format!("{:#}", error.unwrap_err()), "the source is damaged");
    }

    #[test]
    fn writing_ends_before_the_file_system_is_full() {
        let total = 1 << 30;
        let free = std::cell::Cell::new(total / FREE_PART + 3 * CHECKED_EVERY);
        let room = || Ok(Room { free: free.get(), total });
        let mut out = Careful { out: io::sink(), room, unchecked: 0, has_failed: false };
        let bytes = vec![0; BUFFER];
        let error = loop {
            match out.write(&bytes) {
                Ok(count) => free.set(free.get() - count as u64),
                Err(error) => break error,
            }
        };
        assert!(free.get() > 0 && error.kind() == io::ErrorKind::StorageFull, "{error}");
        assert!(out.has_failed);
        // The first bytes are written without a check.
        let full = || Ok(Room { free: 0, total });
        Careful { out: io::sink(), room: full, unchecked: 0, has_failed: false }
            .write_all(&bytes)
            .unwrap();
    }
}
