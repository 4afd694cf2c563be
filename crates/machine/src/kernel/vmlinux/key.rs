//! What a file of the cache is known by: its name, and its end.
//!
//! Both are BLAKE3 hashes. Nobody can make an image whose hash is another's, so
//! that no root file system brings a kernel that is then taken for another; what
//! identifies a file (device, inode, times) does not tell apart images that were
//! built to be reproducible.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 16;

/// What an image contains, for short; as text 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(blake3::Hash);

impl Key {
    /// That of the image `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// That of `image`, read from its start.
    pub fn of_file(image: &File) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            match image.read_at(&mut buffer, offset)? {
                0 => return Ok(Self(hasher.finalize())),
                count => hasher.update(&buffer[..count]),
            };
            offset = hasher.count();
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is behind the contents of a file: 32 bytes, a hash of the key and of
/// where they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Trailer(pub [u8; Trailer::SIZE]);

impl Trailer {
    /// Bytes.
    pub const SIZE: usize = blake3::OUT_LEN;

    /// That of a file with `size` bytes of contents.
    #[must_use]
    pub fn new(Key(key): Key, size: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("virtinitrd 2026 end of a kept vmlinux");
        hasher.update(key.as_bytes()).update(&size.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_the_whole_image() {
        let mut image = vec![7; 200_000];
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&image, 0).unwrap();
        assert_eq!(Key::of_file(&file).unwrap(), Key::of(&image));
        image[199_999] = 8;
        assert_ne!(Key::of_file(&file).unwrap(), Key::of(&image));
    }
}
