//! squashfs image that is being read: its blocks by address. A few unpacked blocks are kept.
//!
//! Interface: pread(2). The image is not trusted: a read beyond its end is an error, and a
//! block that unpacks to more than its size limit is one as well.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::squashfs::layout::superblock::SquashfsSuperblock;
use crate::squashfs::layout::units::{BLOCK_PLAIN, METADATA, METADATA_PLAIN, NO_TABLE};
use crate::tree::file_length;

/// Number of unpacked metadata blocks to keep, of 8 KiB each.
const METADATA_KEPT: usize = 64;
/// Number of unpacked fragments to keep, of up to 1 MiB each.
const FRAGMENTS_KEPT: usize = 3;
/// Number of bytes to read at once when metadata blocks are counted.
const WINDOW: usize = 1 << 16;

/// Most bytes that one compressed byte can unpack to. Deflate reaches 1032; the other
/// compressors reach more, but only in blocks larger than [`METADATA`].
const RATIO_MAX: usize = 1032;

/// Image that is being read.
#[derive(Debug)]
pub(in crate::squashfs) struct SquashfsImage {
    file: Arc<File>,
    /// Decoded superblock.
    pub superblock: SquashfsSuperblock,
    /// Unpacked metadata blocks by address.
    metadata: RecentlyUsed<MetadataBlock>,
    /// Unpacked fragments by number.
    pub(super) fragments: RecentlyUsed<Vec<u8>>,
}

impl SquashfsImage {
    /// Opens the image in `file`.
    ///
    /// # Errors
    /// The file holds no squashfs, or one that we do not read, or is cut off.
    pub(in crate::squashfs) fn open(file: Arc<File>) -> Result<Self> {
        let size = file_length(&file).context("find the end of the image")?;
        let mut bytes = [0; SquashfsSuperblock::SIZE];
        ensure!(size >= bytes.len() as u64, "this is no squashfs: it is shorter than a superblock");
        file.read_exact_at(&mut bytes, 0).context("read the image")?;
        let superblock = SquashfsSuperblock::decode(&bytes)?;
        let used = superblock.bytes_used;
        ensure!(used <= size, "the image is cut off: it has {size} of {used} bytes");
        let (metadata, fragments) =
            (RecentlyUsed::new(METADATA_KEPT), RecentlyUsed::new(FRAGMENTS_KEPT));
        Ok(Self { file, superblock, metadata, fragments })
    }

    /// Fills `buffer` from byte `at` of the image on.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        let is_inside = end.is_some_and(|end| end <= self.superblock.bytes_used);
        ensure!(is_inside, "byte {at} is beyond the image's end");
        self.file.read_exact_at(buffer, at).context("read the image")
    }

    /// Reads the metadata block at the address `at`.
    pub(super) fn metadata(&self, at: u64) -> Result<Arc<MetadataBlock>> {
        self.metadata.get(at, || self.unpack_metadata(at).context("metadata"))
    }

    /// Unpacks the metadata block at the address `at`.
    fn unpack_metadata(&self, at: u64) -> Result<MetadataBlock> {
        let mut length = [0; 2];
        self.read(at, &mut length)?;
        let length = u16::from_le_bytes(length);
        let size = length & !METADATA_PLAIN;
        ensure!((1..=METADATA).contains(&size.into()), "a block of {size} bytes at {at}");
        let mut bytes = vec![0; size.into()];
        self.read(at + 2, &mut bytes)?;
        if length & METADATA_PLAIN == 0 {
            let mut out = vec![0; METADATA];
            let size = self.superblock.compressor.unpack(&bytes, &mut out);
            out.truncate(size.with_context(|| format!("at {at}"))?);
            ensure!(!out.is_empty(), "the block at {at} is empty");
            bytes = out;
        }
        Ok(MetadataBlock { bytes, next: at + 2 + u64::from(size) })
    }

    /// Unpacks the block of contents at the address `at` to the start of `out`, and returns
    /// its unpacked size. `description` is its stored length with the mark [`BLOCK_PLAIN`].
    pub(super) fn block(&self, at: u64, description: u32, out: &mut [u8]) -> Result<usize> {
        let size = (description & !BLOCK_PLAIN) as usize;
        let most = self.superblock.block_size();
        ensure!((1..=most).contains(&size), "a block of {description:#x} bytes at {at}");
        if description & BLOCK_PLAIN != 0 {
            let out =
                out.get_mut(..size).with_context(|| format!("the block at {at} is too long"))?;
            self.read(at, out)?;
            return Ok(size);
        }
        let mut packed = vec![0; size];
        self.read(at, &mut packed)?;
        self.superblock.compressor.unpack(&packed, out).with_context(|| format!("at {at}"))
    }

    /// Most bytes that the metadata blocks from the address `start` to the next table can
    /// unpack to.
    pub(in crate::squashfs) fn metadata_size(&self, start: u64) -> Result<u64> {
        let SquashfsSuperblock { directory_table, fragment_table, lookup_table, id_table, .. } =
            self.superblock;
        let tables = [directory_table, fragment_table, lookup_table, id_table];
        let later = tables.into_iter().filter(|&at| at > start && at != NO_TABLE).min();
        let end = later.map_or(self.superblock.bytes_used, |at| at.min(self.superblock.bytes_used));
        let (mut at, mut unpacked) = (start, 0);
        let mut window = vec![0; WINDOW];
        while at.saturating_add(2) <= end {
            let window = &mut window[..usize::try_from((end - at).min(WINDOW as u64))?];
            self.read(at, window)?;
            let mut used = 0;
            while let Some(length) = window.get(used..).and_then(<[u8]>::first_chunk) {
                let length = u16::from_le_bytes(*length);
                let size = usize::from(length & !METADATA_PLAIN);
                used += 2 + size;
                // An empty block unpacks to nothing, even with a mark in its length.
                let most = if length & METADATA_PLAIN == 0 { size * RATIO_MAX } else { size };
                unpacked += most.min(METADATA) as u64;
            }
            at += used as u64;
        }
        Ok(unpacked)
    }
}

/// Unpacked metadata block.
#[derive(Debug)]
pub(super) struct MetadataBlock {
    /// Unpacked bytes.
    pub bytes: Vec<u8>,
    /// Address of the byte after the stored block.
    pub next: u64,
}

/// Values that were used recently and take time to make again.
#[derive(Debug)]
pub(super) struct RecentlyUsed<T> {
    /// Most values to keep.
    most: usize,
    /// Values with their keys; the most recently used one is last.
    rows: Mutex<Vec<(u64, Arc<T>)>>,
}

impl<T> RecentlyUsed<T> {
    /// Keeps at most `most` values.
    fn new(most: usize) -> Self {
        Self { most, rows: Mutex::default() }
    }

    /// Returns the value of `key`; calls `make` if it is not kept.
    pub(super) fn get(&self, key: u64, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = match rows.iter().rposition(|row| row.0 == key) {
            Some(at) => rows.remove(at),
            None => {
                // Release the lock, so that other threads need not wait. One of them may
                // make the same value.
                drop(rows);
                let row = (key, Arc::new(make()?));
                rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
                if rows.len() >= self.most {
                    rows.remove(0);
                }
                row
            }
        };
        let value = Arc::clone(&row.1);
        rows.push(row);
        Ok(value)
    }
}
