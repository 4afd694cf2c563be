//! Writing disk images: EROFS, ext4 and squashfs.
//!
//! One set of options serves all three formats. This file translates it into the options of
//! the format, whose own module writes the image.

use std::fs::File;

use anyhow::{Context, Result, bail, ensure};
use archive::compress::{Compression, Method};
use files::notes::Notes;
use rustix::fs::OFlags;

use crate::disk_parts::identity::marked;
use crate::format::Format;
use crate::progress::Progress;
use crate::tree::{Kind, Tree, mode};
use crate::{erofs, ext4, squashfs};

/// Free space of an image that can be written to by default, in percent of the used space.
pub const SLACK_PERCENT: u32 = 10;
/// Further free space of such an image by default, in bytes.
pub const SLACK_BYTES: u64 = 16 << 20;

/// Options for writing a disk image.
#[derive(Clone, Debug, Default)]
pub struct DiskOptions {
    /// UUID of EROFS and ext4. By default, it follows from all bytes of the image.
    pub uuid: Option<[u8; 16]>,
    /// Name of the file system (EROFS and ext4); may be empty.
    pub label: String,
    /// Size of an ext4 image in bytes. By default, the size follows from the contents.
    pub size: Option<u64>,
    /// Free space of an ext4 image, in percent of the used space. By default, 10 percent and
    /// 16 MiB.
    pub slack: Option<u32>,
    /// Compression of EROFS and squashfs. By default, lz4 for EROFS and gzip for squashfs.
    pub compress: Option<Method>,
    /// Number of bytes that EROFS and squashfs compress at a time. By default, 4096 for EROFS
    /// and 128 KiB for squashfs.
    pub cluster_size: Option<u64>,
    /// Number of threads that compress. 0 counts as 1; each format uses a limited number.
    pub threads: u32,
    /// Time of the image, in seconds since 1970.
    pub mtime: u32,
}

/// Writes `tree` to `out` as a disk image in `format`, which must be EROFS, ext4 or squashfs.
/// `out` must be a regular file that is open for reading and writing.
///
/// # Errors
/// A tree that the format cannot express; contents that cannot be read; errors of writing
/// to `out`.
pub fn write(
    tree: &Tree,
    format: Format,
    options: &DiskOptions,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    check_output(format, out)?;
    let threads = usize::try_from(options.threads)?;
    match format {
        Format::Erofs => {
            let usual = erofs::ErofsOptions::default();
            let compression = match options.compress {
                Some(Method { compression: Compression::None, .. }) => {
                    erofs::ErofsCompression::None
                }
                Some(Method { level: Some(level @ 2..), .. }) => {
                    erofs::ErofsCompression::Lz4hc(u32::try_from(level)?)
                }
                _ => erofs::ErofsCompression::Lz4,
            };
            let cluster_size = match options.cluster_size {
                Some(size) => u32::try_from(size)?,
                None => usual.cluster_size,
            };
            let options = erofs::ErofsOptions {
                compression,
                cluster_size,
                uuid: options.uuid,
                label: options.label.clone(),
                time: options.mtime.into(),
                threads,
            };
            erofs::write(tree, &options, out, progress)
        }
        Format::Ext4 => {
            let size = match (options.size, options.slack) {
                (Some(size), _) => ext4::Ext4Size::Exact(size),
                (None, Some(percent)) => ext4::Ext4Size::Slack { percent, bytes: 0 },
                (None, None) => {
                    ext4::Ext4Size::Slack { percent: SLACK_PERCENT, bytes: SLACK_BYTES }
                }
            };
            let label = ext4::label(&options.label)?;
            let uuid = match options.uuid {
                Some(uuid) => ext4::Ext4Uuid::Given(uuid),
                None => ext4::Ext4Uuid::OfContents { seed: seed_of(tree)? },
            };
            let journal = ext4::Ext4Journal::BySize;
            let time = options.mtime.into();
            let options = ext4::Ext4Options { size, uuid, label, time, journal };
            ext4::write(tree, &options, out, progress)
        }
        Format::Squashfs => {
            let usual = squashfs::SquashfsOptions::default();
            let block_size = options.cluster_size.map(u32::try_from).transpose();
            let options = squashfs::SquashfsOptions {
                compressor: compressor(options.compress).unwrap_or(usual.compressor),
                level: options.compress.and_then(|method| method.level),
                block_size: block_size
                    .context("cluster size: at most 1 MiB")?
                    .unwrap_or(usual.block_size),
                threads,
                time: options.mtime,
            };
            squashfs::write(tree, &options, out, notes, progress)
        }
        other => bail!("{other} is not a disk format"),
    }
}

/// Checks that a disk image in `format` can be written to `out`, which takes a regular file
/// that can be written at any offset.
///
/// # Errors
/// A pipe or a device; a file that is open for appending.
pub fn check_output(format: Format, out: &File) -> Result<()> {
    ensure!(
        out.metadata()?.is_file(),
        "{format} is not written in one go, but the output is a pipe or a device: write it to a \
         file and copy that"
    );
    let flags = rustix::fs::fcntl_getfl(out).context("look at the output")?;
    ensure!(
        !flags.contains(OFlags::APPEND),
        "{format} is not written in one go: standard output cannot be open for appending (>>)"
    );
    Ok(())
}

/// The compressor of squashfs for a method; `None` for the default one.
fn compressor(method: Option<Method>) -> Option<squashfs::Compressor> {
    match method?.compression {
        Compression::None => None,
        Compression::Gzip => Some(squashfs::Compressor::Gzip),
        Compression::Zstd => Some(squashfs::Compressor::Zstd),
        Compression::Xz => Some(squashfs::Compressor::Xz),
        Compression::Lz4 => Some(squashfs::Compressor::Lz4),
    }
}

/// Seed for the hashes in ext4's directories. It follows from the names and metadata of
/// `tree`.
fn seed_of(tree: &Tree) -> Result<[u8; 16]> {
    let mut hasher = blake3::Hasher::new();
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let size = match &node.kind {
            Kind::File(content) => content.size(),
            _ => 0,
        };
        hasher.update(path);
        hasher.update(&[0]);
        hasher.update(&mode(node).to_le_bytes());
        hasher.update(&node.meta.mtime.to_le_bytes());
        hasher.update(&node.meta.nanoseconds.to_le_bytes());
        hasher.update(&size.to_le_bytes());
        Ok(())
    })?;
    let mut seed = [0; 16];
    hasher.finalize_xof().fill(&mut seed);
    Ok(marked(seed))
}
