//! Writer of EROFS: it places the directories, writes the files, and then fills in the
//! names.
//!
//! Format: see `layout`. The superblock is written last, so an unfinished image has no
//! superblock.

mod cluster_map;
mod directories;
mod files;
mod gaps;
mod head;
mod out;
mod segment;
mod sparse;

use std::fs::File;

use anyhow::{Context, Result, ensure};

use self::cluster_map::ClusterSize;
use self::out::{FIRST_BLOCK, ImageWriter, address};
use super::layout::superblock::{ErofsSuperblock, incompatible};
use super::layout::units::{BLOCK, BLOCK_BYTES, SLOT};
use super::options::ErofsOptions;
use crate::disk_parts::identity::Image;
use crate::progress::Progress;
use crate::tree::Tree;

/// Most bytes of a cluster (`Z_EROFS_PCLUSTER_MAX_SIZE`).
const CLUSTER_MAX: usize = 1 << 20;
/// Most bytes of a label (`volume_name` without the NUL at its end).
const LABEL_MAX: usize = 15;

/// Writes `tree` as EROFS into the regular file `out`. The old contents of `out` are lost.
///
/// # Errors
/// An option is out of range; EROFS cannot hold the metadata of a node; a file cannot be
/// read; the image would be larger than 16 TiB.
pub fn write(tree: &Tree, options: &ErofsOptions, out: &File, progress: &Progress) -> Result<()> {
    let cluster = options.cluster_size as usize;
    ensure!(
        cluster.is_multiple_of(BLOCK) && (BLOCK..=CLUSTER_MAX).contains(&cluster),
        "cluster size {cluster}: it must be a multiple of 4096, up to 1 MiB"
    );
    let label = options.label.as_bytes();
    ensure!(
        label.len() <= LABEL_MAX && !label.contains(&0),
        "label \"{}\": a label has at most 15 bytes and no NUL",
        options.label.escape_debug()
    );
    let clusters = if cluster > BLOCK { ClusterSize::SeveralBlocks } else { ClusterSize::OneBlock };
    let time = options.time;

    out.set_len(0).context("write the image")?;
    let (directories, next) = directories::plan(tree, time)?;
    let positions = directories.iter().map(|directory| (directory.id, directory.position));
    let file = Image::new(out, options.uuid);
    let mut image = ImageWriter::new(&file, time, clusters, positions, next)?;
    files::write(tree, options, &mut image, progress)?;
    image.flush()?;
    for directory in &directories {
        directories::write(tree, directory, &image, time)?;
    }

    let features = [
        (image.has_packed, incompatible::ZERO_PADDING),
        (image.has_packed && clusters == ClusterSize::SeveralBlocks, incompatible::BIG_PCLUSTER),
        (image.has_chunks, incompatible::CHUNKED_FILE),
    ];
    let mut superblock = ErofsSuperblock {
        features: features.iter().filter(|row| row.0).map(|row| row.1).sum(),
        root: u16::try_from(FIRST_BLOCK * BLOCK_BYTES / SLOT as u64)?,
        inodes: image.inode_count() as u64,
        time,
        blocks: address(image.next_block())?,
        uuid: options.uuid.or_else(|| file.uuid()).unwrap_or_default(),
        cluster_blocks: u16::try_from(cluster / BLOCK)?,
        ..ErofsSuperblock::default()
    };
    superblock.label[..label.len()].copy_from_slice(label);
    image.write_at(&superblock.encode(), 0)?;
    out.set_len(image.next_block() * BLOCK_BYTES).context("write the image")
}
