//! Choices that the writer of EROFS images offers.

/// Options of [`write`](super::write()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErofsOptions {
    /// Compression of the contents of files.
    pub compression: ErofsCompression,
    /// Largest number of bytes that a compressed cluster takes in the image: a multiple
    /// of 4096, up to 1 MiB. Larger clusters make a smaller image and slower random
    /// reads.
    pub cluster_size: u32,
    /// UUID of the file system. `None` derives the UUID from the bytes of the image.
    pub uuid: Option<[u8; 16]>,
    /// Volume label, at most 15 bytes.
    pub label: String,
    /// Build time of the image in seconds since 1970. An inode with exactly this
    /// modification time takes 32 bytes instead of 64.
    pub time: i64,
    /// Number of threads that compress; at least 1 and at most 8 are used.
    pub threads: usize,
}

/// Compression of the contents of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErofsCompression {
    /// No compression: the image is large and quick to read.
    None,
    /// LZ4, wherever that saves a block.
    #[default]
    Lz4,
    /// LZ4 with a longer search, at a level from 1 to 12. The image is smaller and takes
    /// longer to make; reading takes the same time.
    Lz4hc(u32),
}

impl Default for ErofsOptions {
    fn default() -> Self {
        Self {
            compression: ErofsCompression::Lz4,
            cluster_size: 4096,
            uuid: None,
            label: String::new(),
            time: 0,
            threads: 1,
        }
    }
}
