//! Writing an image: its contents while they are read, its metadata behind them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;

use super::Options;
use super::compressor::Packer;
use super::files::{Files, Job};
use super::layout::{BLOCK_LOGS, FRAGMENT, NO_TABLE, Superblock, flag};
use super::metadata::Writer;
use super::out::{Out, Step};
use super::plan::Plan;
use super::table;
use crate::disk::ordered;
use crate::progress::Progress;
use crate::tree::Tree;

/// Most threads that compress: each has some blocks in memory.
const THREADS_MAX: usize = 32;
/// Bytes that an image is a multiple of, as block devices are.
const PADDING: u64 = 4096;

/// Writes `tree` into `out`, a regular file, which loses what it had.
///
/// # Errors
/// Options out of range; metadata that squashfs cannot hold, before anything is
/// written; a file that cannot be read any more; more than 4 GiB of metadata.
pub fn write(
    tree: &Tree,
    options: &Options,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    let block_log = u16::try_from(options.block_size.checked_ilog2().unwrap_or_default())?;
    ensure!(
        options.block_size.is_power_of_two() && BLOCK_LOGS.contains(&block_log),
        "block size {}: a power of two from 4096 to 1 MiB",
        options.block_size
    );
    let packer = || Packer::new(options.compressor, options.level, block_log);
    let plan = Plan::new(tree, packer()?, notes)?;

    out.set_len(0).context("write the image")?;
    let extra = options.compressor.options();
    let metadata = [Writer::new(packer()?), Writer::new(packer()?)];
    let mut image = Out::new(tree, &plan, (out, Superblock::SIZE as u64), metadata);
    image.append(extra)?;
    contents(tree, options, &packer, &mut image, progress)?;

    let root = image.place(Tree::ROOT).at.reference();
    let Out { inodes, names, fragments, inode_count, at, .. } = image;
    let mut tables = Tables { out, at };
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
    let superblock = Superblock {
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

/// Writes all contents into `image`.
fn contents(
    tree: &Tree,
    options: &Options,
    packer: &(impl Fn() -> Result<Packer> + Sync),
    image: &mut Out,
    progress: &Progress,
) -> Result<()> {
    let block_size = options.block_size as usize;
    let threads = options.threads.clamp(1, THREADS_MAX);
    // One that is worked on, one that waits for it, and two on their way.
    let held_max = (2 * threads + 2) * block_size;
    let worker = || {
        let mut packer = packer();
        move |job: Job| match &mut packer {
            Ok(packer) => packer.pack(job.bytes).map(job.step),
            Err(error) => bail!("{error:#}"),
        }
    };
    let mut take = |step: Result<Step>| image.take(step?);
    ordered::run(threads, held_max, worker, &mut take, |queue| {
        Files::new(tree, queue, progress, block_size).all()
    })
}

/// What follows the contents.
struct Tables<'a> {
    out: &'a File,
    /// Where the next byte goes.
    at: u64,
}

impl Tables<'_> {
    /// Tells where `bytes` are then.
    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let start = self.at;
        self.out.write_all_at(bytes, start).context("write the image")?;
        self.at += bytes.len() as u64;
        Ok(start)
    }

    /// Tells where the superblock points.
    fn records(&mut self, records: &[u8], packer: Packer) -> Result<u64> {
        let (bytes, start) = table::encode(records, &[], packer, self.at)?;
        self.append(&bytes).map(|_| start)
    }
}
