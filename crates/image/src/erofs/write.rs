//! Writing an image: its directories are placed, files written, names filled in.

use std::fs::File;

use anyhow::{Context, Result, ensure};

use super::cluster_map::Clusters;
use super::inode::Inode;
use super::layout::{BLOCK, BLOCK_BYTES, SLOT, Superblock, incompatible};
use super::out::{FIRST_BLOCK, Head, Out, address};
use super::{Options, directories, files, xattrs};
use crate::identity::Image;
use crate::progress::Progress;
use crate::tree::{Node, Tree, mode};

/// Largest cluster, in bytes (`Z_EROFS_PCLUSTER_MAX_SIZE`).
const CLUSTER_MAX: usize = 1 << 20;
/// Longest label, in bytes: a NUL follows it.
const LABEL_MAX: usize = 15;

/// Writes `tree` into `out`, a regular file, which loses what it had.
///
/// # Errors
/// Options out of range; metadata that EROFS cannot hold; a file that cannot be
/// read any more; more than 16 TiB.
pub fn write(tree: &Tree, options: &Options, out: &File, progress: &Progress) -> Result<()> {
    let cluster = options.cluster_size as usize;
    ensure!(
        cluster.is_multiple_of(BLOCK) && (BLOCK..=CLUSTER_MAX).contains(&cluster),
        "cluster size {cluster}: a multiple of 4096, up to 1 MiB"
    );
    let label = options.label.as_bytes();
    ensure!(
        label.len() <= LABEL_MAX && !label.contains(&0),
        "label \"{}\": at most 15 bytes, without NUL",
        options.label.escape_debug()
    );
    let clusters = if cluster > BLOCK { Clusters::OfSeveral } else { Clusters::OfOneBlock };
    let time = options.time;

    out.set_len(0).context("write the image")?;
    let (directories, next) = directories::plan(tree, time)?;
    let places = directories.iter().map(|directory| (directory.id, directory.place));
    let file = Image::new(out, options.uuid);
    let mut image = Out::new(&file, time, clusters, places, next)?;
    files::write(tree, options, &mut image, progress)?;
    image.flush()?;
    for directory in &directories {
        directories::write(tree, directory, &image, time)?;
    }

    let features = [
        (image.has_packed, incompatible::ZERO_PADDING),
        (image.has_packed && clusters == Clusters::OfSeveral, incompatible::BIG_CLUSTER),
        (image.has_chunks, incompatible::CHUNKS),
    ];
    let mut superblock = Superblock {
        features: features.iter().filter(|row| row.0).map(|row| row.1).sum(),
        root: u16::try_from(FIRST_BLOCK * BLOCK_BYTES / SLOT as u64)?,
        inodes: image.inode_count() as u64,
        time,
        blocks: address(image.next_block())?,
        uuid: options.uuid.or_else(|| file.uuid()).unwrap_or_default(),
        cluster_blocks: u16::try_from(cluster / BLOCK)?,
        ..Superblock::default()
    };
    superblock.label[..label.len()].copy_from_slice(label);
    image.write_at(&superblock.encode(), 0)?;
    out.set_len(image.next_block() * BLOCK_BYTES).context("write the image")
}

/// The inode of `node`, without what only its contents tell.
pub(super) fn head(node: &Node) -> Result<Head> {
    let xattrs = xattrs::encode(&node.meta.xattrs)?;
    let inode = Inode {
        xattr_words: xattrs::words(&xattrs)?,
        mode: u16::try_from(mode(node))?,
        links: node.names,
        uid: node.meta.uid,
        gid: node.meta.gid,
        mtime: node.meta.mtime,
        ..Inode::default()
    };
    Ok(Head { inode, xattrs })
}
