//! Choices that the writer of squashfs images offers.

use super::compressor::Compressor;

/// Options of [`write`](super::write()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquashfsOptions {
    /// Compressor of contents and metadata.
    pub compressor: Compressor,
    /// Level of the compressor. `None` takes its usual level.
    pub level: Option<i32>,
    /// Number of bytes that are compressed as one block: a power of two from 4096 to 1 MiB.
    /// Larger blocks make a smaller image and slower random reads.
    pub block_size: u32,
    /// Number of threads that compress; at least 1 and at most 32 are used.
    pub threads: usize,
    /// Build time of the image, in seconds since 1970.
    pub time: u32,
}

impl Default for SquashfsOptions {
    fn default() -> Self {
        Self {
            compressor: Compressor::Gzip,
            level: None,
            block_size: 128 << 10,
            threads: 1,
            time: 0,
        }
    }
}
