//! Writer of squashfs: it writes contents while it reads the source, and then the metadata.
//!
//! Format: see `layout`. The superblock is written last, so an unfinished image has no
//! superblock.

mod dirents;
mod feeder;
mod metadata;
mod out;
mod plan;
mod table;
mod xattrs;

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;

use self::feeder::{CompressJob, TreeFeeder};
use self::metadata::MetadataWriter;
use self::out::{ImageOutput, ImageStep};
use self::plan::SquashfsPlan;
use super::compressor::{Compressor, Packer};
use super::layout::superblock::{SquashfsSuperblock, flag};
use super::layout::units::{BLOCK_LOGS, FRAGMENT, METADATA_PLAIN, NO_TABLE};
use super::options::SquashfsOptions;
use crate::disk_parts::ordered;
use crate::progress::Progress;
use crate::tree::Tree;

/// Most threads that compress. Each has a few blocks in memory.
const THREADS_MAX: usize = 32;
/// Unit of the image's size, in bytes. A block device has a multiple of it.
const PADDING: u64 = 4096;
/// Options of lz4, which follow the superblock as a metadata block that is not compressed
/// (`struct lz4_comp_opts` in `fs/squashfs/lz4_wrapper.c`): version 1 (`LZ4_LEGACY`), no flags.
const LZ4_OPTIONS: [u8; 10] = {
    let [low, high] = (8 | METADATA_PLAIN).to_le_bytes();
    [low, high, 1, 0, 0, 0, 0, 0, 0, 0]
};

/// Writes `tree` as squashfs into the regular file `out`. The old contents of `out` are lost.
/// `notes` gets the metadata that squashfs loses.
///
/// # Errors
/// An option is out of range, or squashfs cannot hold the metadata of a node; nothing is
/// written then. Or a file cannot be read, or the metadata has more than 4 GiB.
pub fn write(
    tree: &Tree,
    options: &SquashfsOptions,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let block_log = u16::try_from(options.block_size.checked_ilog2().unwrap_or_default())?;
    ensure!(
        options.block_size.is_power_of_two() && BLOCK_LOGS.contains(&block_log),
        "block size {}: it must be a power of two from 4096 to 1 MiB",
        options.block_size
    );
    let packer = || Packer::new(options.compressor, options.level, block_log);
    let plan = SquashfsPlan::new(tree, packer()?, notes)?;

    out.set_len(0).context("write the image")?;
    let extra: &[u8] = if options.compressor == Compressor::Lz4 { &LZ4_OPTIONS } else { &[] };
    let metadata = [MetadataWriter::new(packer()?), MetadataWriter::new(packer()?)];
    let mut image = ImageOutput::new(tree, &plan, (out, SquashfsSuperblock::SIZE as u64), metadata);
    image.append(extra)?;
    contents(tree, options, &packer, &mut image, progress)?;

    let root = image.written(Tree::ROOT).at.reference();
    let ImageOutput { inodes, names, fragments, inode_count, at, .. } = image;
    let mut tables = TableOutput { out, at };
    let inode_table = tables.append(&inodes.finish()?.0)?;
    let directory_table = tables.append(&names.finish()?.0)?;
    let fragment_table = tables.records(&fragments, packer()?)?;
    let ids: Vec<u8> = plan.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let id_table = tables.records(&ids, packer()?)?;
    let (xattrs, xattr_table) = plan.xattrs.finish(packer()?, tables.at)?;
    tables.append(&xattrs)?;

    let flags = [
        (true, flag::ALWAYS_FRAGMENTS),
        (xattrs.is_empty(), flag::NO_XATTRS),
        (!extra.is_empty(), flag::OPTIONS),
    ];
    let superblock = SquashfsSuperblock {
        inodes: inode_count,
        time: options.time,
        block_log,
        fragments: u32::try_from(fragments.len() / FRAGMENT)?,
        compressor: options.compressor,
        flags: flags.iter().filter(|row| row.0).map(|row| row.1).sum(),
        ids: u16::try_from(plan.ids.len())?,
        root,
        bytes_used: tables.at,
        id_table,
        xattr_table,
        inode_table,
        directory_table,
        fragment_table,
        lookup_table: NO_TABLE,
    };
    out.write_all_at(&superblock.encode(), 0).context("write the image")?;
    out.set_len(tables.at.next_multiple_of(PADDING)).context("write the image")
}

/// Writes all nodes of `tree` into `image`.
fn contents(
    tree: &Tree,
    options: &SquashfsOptions,
    packer: &(impl Fn() -> Result<Packer> + Sync),
    image: &mut ImageOutput,
    progress: &Progress,
) -> Result<()> {
    let block_size = options.block_size as usize;
    let threads = options.threads.clamp(1, THREADS_MAX);
    // Each thread works on one block and has one waiting; two more are on their way.
    let held_max = (2 * threads + 2) * block_size;
    let worker = || {
        let mut packer = packer();
        move |job: CompressJob| match &mut packer {
            Ok(packer) => packer.pack(job.bytes).map(job.step),
            Err(error) => bail!("{error:#}"),
        }
    };
    let mut take = |step: Result<ImageStep>| image.take(step?);
    ordered::run(threads, held_max, worker, &mut take, |queue| {
        TreeFeeder::new(tree, queue, progress, block_size).all()
    })
}

/// End of the image file, where the tables go.
struct TableOutput<'a> {
    out: &'a File,
    /// Address of the next byte.
    at: u64,
}

impl TableOutput<'_> {
    /// Writes `bytes` at the end, and returns their address.
    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let start = self.at;
        self.out.write_all_at(bytes, start).context("write the image")?;
        self.at += bytes.len() as u64;
        Ok(start)
    }

    /// Writes a table of records, and returns the address for the superblock.
    fn records(&mut self, records: &[u8], packer: Packer) -> Result<u64> {
        let (bytes, start) = table::encode(records, &[], packer, self.at)?;
        self.append(&bytes).map(|_| start)
    }
}
