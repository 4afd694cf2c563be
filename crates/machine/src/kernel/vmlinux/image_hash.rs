//! Hashes for the cache of unpacked kernels: the name of a file in the cache, and the
//! trailer at its end.
//!
//! Both are BLAKE3 hashes. Nobody can make two images with the same hash, so a hostile root
//! file system cannot bring an image that is mistaken for another one. Device, inode and
//! times of a file would not be enough: images of reproducible builds share them.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// Hash of the contents of a kernel image; as text 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHash(blake3::Hash);

impl ImageHash {
    /// The hash of the image `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    /// The hash of the file `image`, read from its start.
    ///
    /// # Errors
    /// The file cannot be read.
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

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Last 32 bytes of a file in the cache, which follow the unpacked kernel: a hash of the
/// image's hash and of the kernel's size.
#[derive(Debug, PartialEq, Eq)]
pub struct Trailer(pub [u8; Trailer::SIZE]);

impl Trailer {
    /// Size in bytes.
    pub const SIZE: usize = blake3::OUT_LEN;

    /// The trailer of a file with `size` bytes of unpacked kernel.
    #[must_use]
    pub fn new(ImageHash(hash): ImageHash, size: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("virtinitrd 2026 end of a kept vmlinux");
        hasher.update(hash.as_bytes()).update(&size.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_the_whole_image() {
        let mut image = vec![7; 200_000];
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&image, 0).unwrap();
        assert_eq!(ImageHash::of_file(&file).unwrap(), ImageHash::of(&image));
        image[199_999] = 8;
        assert_ne!(ImageHash::of_file(&file).unwrap(), ImageHash::of(&image));
    }
}
