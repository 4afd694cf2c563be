//! UUIDs of images: a hash of all bytes that were written to the image.
//!
//! The bytes are hashed on their way to the file, so that nothing is read twice. The
//! superblock contains the UUID, so it is written last and is not part of the hash. Images
//! that differ outside of the superblock have different UUIDs; equal images have equal
//! UUIDs (version 8 of RFC 9562).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a UUID.
const UUID: usize = 16;

/// Writer of an image that hashes all written bytes.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    file: &'a File,
    /// `None` if the caller gives the UUID.
    hasher: Option<RefCell<blake3::Hasher>>,
}

impl<'a> Image<'a> {
    /// A writer of an image to `file`. Its UUID is `given`, or follows from the written
    /// bytes.
    pub(crate) fn new(file: &'a File, given: Option<[u8; UUID]>) -> Self {
        Self { file, hasher: given.is_none().then(RefCell::default) }
    }

    /// Writes `bytes` at offset `at`.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Some(hasher) = &self.hasher {
            let mut hasher = hasher.borrow_mut();
            for number in [at, bytes.len() as u64] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(bytes);
        }
        self.file.write_all_at(bytes, at)
    }

    /// The UUID that follows from the bytes written so far; `None` if the caller gave one.
    pub(crate) fn uuid(&self) -> Option<[u8; UUID]> {
        let mut uuid = [0; UUID];
        self.hasher.as_ref()?.borrow().finalize_xof().fill(&mut uuid);
        Some(marked(uuid))
    }
}

/// Turns a hash into a UUID: sets the bits of the version (8) and of the variant (RFC 9562
/// §4).
pub(crate) fn marked(mut hash: [u8; UUID]) -> [u8; UUID] {
    hash[6] = hash[6] & 0x0f | 0x80;
    hash[8] = hash[8] & 0x3f | 0x80;
    hash
}
