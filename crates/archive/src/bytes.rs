//! Bytes of a file: a reader at an offset, and a check for zeros.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Reader of a file from an offset. It neither uses nor changes the position of the
/// file itself, so that several readers can share one file (pread(2)).
pub struct At<'a> {
    /// The file to read from.
    pub file: &'a File,
    /// Offset of the next byte.
    pub offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Whether all of `bytes` are zero. No bytes at all count as zero, too.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&byte| byte == 0)
}
