//! UUIDs of images: a hash of what was written to an image.
//!
//! The hash is taken of the bytes on their way to the file, so that nothing is read
//! twice; the superblock, which holds it, is written last. Images that differ outside
//! of the superblock have different UUIDs, equal images have equal ones (version 8 of
//! RFC 9562).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a UUID.
const UUID: usize = 16;

/// An image while it is written.
#[derive(Debug)]
pub(super) struct Image<'a> {
    file: &'a File,
    /// `None` where the UUID is given.
    hasher: Option<RefCell<blake3::Hasher>>,
}

impl<'a> Image<'a> {
    /// An image in `file`, whose UUID is `given` or follows from what is written.
    pub(super) fn new(file: &'a File, given: Option<[u8; UUID]>) -> Self {
        Self { file, hasher: given.is_none().then(RefCell::default) }
    }

    /// Writes `bytes` from byte `at` on.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Some(hasher) = &self.hasher {
            let mut hasher = hasher.borrow_mut();
            for number in [at, bytes.len() as u64] {
                hasher.update(&number.to_le_bytes());
            }
            hasher.update(bytes);
        }
        self.file.write_all_at(bytes, at)
    }

    /// The UUID that follows from what was written; `None` where it is given.
    pub(super) fn uuid(&self) -> Option<[u8; UUID]> {
        let mut uuid = [0; UUID];
        self.hasher.as_ref()?.borrow().finalize_xof().fill(&mut uuid);
        Some(marked(uuid))
    }
}

/// `hash` with the version and the variant of such a UUID.
pub(super) fn marked(mut hash: [u8; UUID]) -> [u8; UUID] {
    hash[6] = hash[6] & 0x0f | 0x80;
    hash[8] = hash[8] & 0x3f | 0x80;
    hash
}
