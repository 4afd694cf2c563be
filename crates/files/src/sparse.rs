//! Files with holes.
//!
//! Interface: `SEEK_DATA` and `SEEK_HOLE` of lseek(2).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// The parts of the first `size` bytes of `file` that are not holes, as offsets of start and end.
/// Moves the position of `file`.
///
/// # Errors
/// Errors of lseek(2).
pub fn segments(file: &File, size: u64) -> Result<Vec<(u64, u64)>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let seek = |at: u64, whence| -> Result<u64> {
            match lseek(file.as_fd(), i64::try_from(at)?, whence) {
                Ok(offset) => Ok(u64::try_from(offset)?.min(size)),
                // No data follows.
                Err(Errno::ENXIO) => Ok(size),
                Err(error) => Err(error).context("find data"),
            }
        };
        let start = seek(at, Whence::SeekData)?;
        if start == size {
            break;
        }
        at = seek(start, Whence::SeekHole)?;
        found.push((start, at));
    }
    Ok(found)
}

/// Copies the regular file `from` to the empty file `to`; holes stay holes. Moves both positions.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy(mut from: &File, mut to: &File) -> Result<()> {
    let size = from.metadata().context("look at a file")?.len();
    for (start, end) in segments(from, size)? {
        from.seek(SeekFrom::Start(start)).context("find data")?;
        to.seek(SeekFrom::Start(start)).context("leave a hole")?;
        let copied = io::copy(&mut from.take(end - start), &mut to).context("copy a file")?;
        ensure!(copied == end - start, "the file was shortened meanwhile");
    }
    to.set_len(size).context("leave a hole")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let (mut from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(b"begin").unwrap();
        from.write_all_at(b"end", 8 << 20).unwrap();
        from.set_len(64 << 20).unwrap();
        copy(&from, &to).unwrap();
        let metadata = to.metadata().unwrap();
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
        for (at, expected) in [(0, b"beg"), (8 << 20, b"end"), (32 << 20, b"\0\0\0")] {
            let mut found = [0; 3];
            to.read_exact_at(&mut found, at).unwrap();
            assert_eq!(&found, expected);
        }
    }
}
