//! An image that is read: its blocks by address, a few of them kept unpacked.
//!
//! The image is not trusted: nothing is read behind its end, and no block unpacks
//! to more than its kind may have.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use super::layout::{
    BLOCK_PLAIN, FRAGMENT, Fields, METADATA, METADATA_PLAIN, NO_TABLE, Superblock,
};
use super::metadata::Block;
use super::table;
use crate::tree::file_length;

/// Metadata blocks that are kept, of 8 KiB each.
const METADATA_KEPT: usize = 64;
/// Fragments that are kept, of up to 1 MiB each.
const FRAGMENTS_KEPT: usize = 3;
/// Bytes that are read at once to count blocks.
const WINDOW: usize = 1 << 16;

/// Most bytes that a compressor makes of one (deflate: 1032, the others more, but
/// only of blocks that are larger than [`METADATA`]).
const RATIO_MAX: usize = 1032;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    file: Arc<File>,
    pub superblock: Superblock,
    metadata: Kept<Block>,
    fragments: Kept<Vec<u8>>,
}

impl Image {
    /// # Errors
    /// What is no squashfs, or does not hang together.
    pub(super) fn open(file: Arc<File>) -> Result<Self> {
        let size = file_length(&file).context("find the end of the image")?;
        let mut bytes = [0; Superblock::SIZE];
        ensure!(size >= bytes.len() as u64, "no squashfs: it is shorter than a superblock");
        file.read_exact_at(&mut bytes, 0).context("read the image")?;
        let superblock = Superblock::decode(&bytes)?;
        let used = superblock.bytes_used;
        ensure!(used <= size, "truncated: it has {size} of {used} bytes");
        let (metadata, fragments) = (Kept::new(METADATA_KEPT), Kept::new(FRAGMENTS_KEPT));
        Ok(Self { file, superblock, metadata, fragments })
    }

    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        let is_inside = end.is_some_and(|end| end <= self.superblock.bytes_used);
        ensure!(is_inside, "byte {at} is behind the image's end");
        self.file.read_exact_at(buffer, at).context("read the image")
    }

    /// The metadata block at `at`.
    pub(super) fn metadata(&self, at: u64) -> Result<Arc<Block>> {
        self.metadata.get(at, || self.unpack_metadata(at).context("metadata"))
    }

    fn unpack_metadata(&self, at: u64) -> Result<Block> {
        let mut length = [0; 2];
        self.read(at, &mut length)?;
        let length = u16::from_le_bytes(length);
        let size = length & !METADATA_PLAIN;
        ensure!((1..=METADATA).contains(&size.into()), "a block with {size} bytes at {at}");
        let mut bytes = vec![0; size.into()];
        self.read(at + 2, &mut bytes)?;
        if length & METADATA_PLAIN == 0 {
            let mut out = vec![0; METADATA];
            let size = self.superblock.compressor.unpack(&bytes, &mut out);
            out.truncate(size.with_context(|| format!("at {at}"))?);
            ensure!(!out.is_empty(), "an empty block at {at}");
            bytes = out;
        }
        Ok(Block { bytes, next: at + 2 + u64::from(size) })
    }

    /// Fills `out` with the block of contents at `at`, of which `told` tells the
    /// length; returns how many bytes that were.
    pub(super) fn block(&self, at: u64, told: u32, out: &mut [u8]) -> Result<usize> {
        let size = (told & !BLOCK_PLAIN) as usize;
        let most = self.superblock.block_size();
        ensure!((1..=most).contains(&size), "a block with {told:#x} bytes at {at}");
        if told & BLOCK_PLAIN != 0 {
            let out =
                out.get_mut(..size).with_context(|| format!("a block is too long at {at}"))?;
            self.read(at, out)?;
            return Ok(size);
        }
        let mut packed = vec![0; size];
        self.read(at, &mut packed)?;
        self.superblock.compressor.unpack(&packed, out).with_context(|| format!("at {at}"))
    }

    /// What the fragment `number` unpacks to.
    pub(super) fn fragment(&self, number: u32) -> Result<Arc<Vec<u8>>> {
        let unpack = || {
            let (index, count) = (self.superblock.fragment_table, self.superblock.fragments);
            let record: [u8; FRAGMENT] = table::record(self, index, count, number)?;
            let mut record = &record[..];
            let (at, told) = (record.u64()?, record.u32()?);
            let mut out = vec![0; self.superblock.block_size()];
            let size = self.block(at, told, &mut out)?;
            out.truncate(size);
            anyhow::Ok(out)
        };
        let context = || format!("fragment {number}");
        self.fragments.get(number.into(), || unpack().with_context(context))
    }

    /// Bytes that the metadata blocks from `start` up to the next table unpack to,
    /// at most.
    pub(super) fn metadata_size(&self, start: u64) -> Result<u64> {
        let Superblock { directory_table, fragment_table, lookup_table, id_table, .. } =
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
                // A block of no bytes holds nothing, whatever it says.
                let most = if length & METADATA_PLAIN == 0 { size * RATIO_MAX } else { size };
                unpacked += most.min(METADATA) as u64;
            }
            at += used as u64;
        }
        Ok(unpacked)
    }
}

/// The last used of what takes time to make.
#[derive(Debug)]
struct Kept<T> {
    most: usize,
    /// By address; the last is that which was used last.
    rows: Mutex<Vec<(u64, Arc<T>)>>,
}

impl<T> Kept<T> {
    fn new(most: usize) -> Self {
        Self { most, rows: Mutex::default() }
    }

    fn get(&self, key: u64, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = match rows.iter().rposition(|row| row.0 == key) {
            Some(at) => rows.remove(at),
            None => {
                // Others are not kept waiting, and may make it as well.
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
