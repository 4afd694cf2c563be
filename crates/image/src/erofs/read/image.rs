//! EROFS image that is being read: its bytes, its superblock and one inode of it.
//!
//! Interface: pread(2). The image is not trusted: a read beyond its end is an error.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::erofs::layout::inode::ErofsInode;
use crate::erofs::layout::superblock::ErofsSuperblock;
use crate::erofs::layout::units::{BLOCK, BLOCK_BYTES};
use crate::tree::file_length;

/// Image that is being read.
#[derive(Debug)]
pub(super) struct ErofsImage {
    file: Arc<File>,
    /// Size of the image in bytes.
    pub size: u64,
    /// Decoded superblock.
    pub superblock: ErofsSuperblock,
}

/// Inode of an image, with the position of the bytes that follow it.
#[derive(Clone, Debug)]
pub(super) struct StoredInode {
    /// Image that holds the inode.
    pub image: Arc<ErofsImage>,
    /// Decoded inode.
    pub inode: ErofsInode,
    /// First byte of the image after the inode and its attributes.
    pub end: u64,
}

impl ErofsImage {
    /// Opens the image in `file`.
    ///
    /// # Errors
    /// The file holds no EROFS, or one that we do not read.
    pub(super) fn open(file: Arc<File>) -> Result<Self> {
        let size = file_length(&file).context("find the end of the image")?;
        let mut block = vec![0; BLOCK];
        ensure!(size >= BLOCK_BYTES, "this is no EROFS image: it is shorter than a block");
        file.read_exact_at(&mut block, 0).context("read the image")?;
        let superblock = ErofsSuperblock::decode(&block)?;
        Ok(Self { file, size, superblock })
    }

    /// The file that holds the image.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from byte `at` of the image on.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        ensure!(end.is_some_and(|end| end <= self.size), "byte {at} is beyond the image's end");
        self.file.read_exact_at(buffer, at).context("read the image")
    }

    /// Reads `length` bytes from byte `at` on, or fewer if the image ends before that.
    pub(super) fn read_up_to(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }
}
