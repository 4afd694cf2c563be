//! Disk images: erofs, ext4 and squashfs.

use std::fs::File;

use anyhow::{Context, Result, bail, ensure};

use crate::archive::compress::Compression;
use crate::archive::stream::Method;
use crate::image::format::Format;
use crate::image::notes::Notes;
use crate::image::progress::Progress;
use crate::image::tree::{Kind, Tree, mode};
use crate::image::{erofs, ext4, squashfs};

/// Free space of an ext4 image whose size nobody chose: so many percent of what
/// is used, and bytes on top.
const SLACK_PERCENT: u32 = 10;
/// As [`SLACK_PERCENT`].
const SLACK_BYTES: u64 = 16 << 20;

/// What a file system is, apart from what is in it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Identifies it; by what is in it without.
    pub uuid: Option<[u8; 16]>,
    /// Names it for people.
    pub label: String,
    /// Bytes of an ext4 image.
    pub size: Option<u64>,
    /// Free space of an ext4 image in percent.
    pub slack: Option<u32>,
    /// Of erofs and squashfs: lz4 and gzip without.
    pub compress: Option<Method>,
    /// Of erofs and squashfs: 4096 and 128 KiB without.
    pub cluster_size: Option<u64>,
    /// Threads that compress.
    pub threads: u32,
    /// The time of the image, in seconds since 1970.
    pub mtime: u32,
}

/// Writes `tree` to `out`, a regular file.
///
/// # Errors
/// What the format cannot hold; contents that cannot be read.
pub fn write(
    tree: &Tree,
    format: Format,
    options: &Options,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    ensure!(out.metadata()?.is_file(), "{format} is not written in one go: it takes a file");
    let uuid = || options.uuid.map_or_else(|| uuid_of(tree), Ok);
    let threads = usize::try_from(options.threads)?;
    match format {
        Format::Erofs => {
            let usual = erofs::Options::default();
            let compression = match options.compress {
                Some(Method { compression: Compression::None, .. }) => erofs::Compression::None,
                Some(Method { level: Some(level @ 2..), .. }) => {
                    erofs::Compression::Lz4hc(u32::try_from(level)?)
                }
                _ => erofs::Compression::Lz4,
            };
            let cluster_size = match options.cluster_size {
                Some(size) => u32::try_from(size)?,
                None => usual.cluster_size,
            };
            let options = erofs::Options {
                compression,
                cluster_size,
                uuid: uuid()?,
                label: options.label.clone(),
                time: options.mtime.into(),
                threads,
            };
            erofs::write(tree, &options, out, progress)
        }
        Format::Ext4 => {
            let size = match (options.size, options.slack) {
                (Some(size), _) => ext4::Size::Exact(size),
                (None, Some(percent)) => ext4::Size::Slack { percent, bytes: 0 },
                (None, None) => ext4::Size::Slack { percent: SLACK_PERCENT, bytes: SLACK_BYTES },
            };
            let label = ext4::label(&options.label)?;
            let options = ext4::Options { size, uuid: uuid()?, label, time: options.mtime.into() };
            ext4::write(tree, &options, out, progress)
        }
        Format::Squashfs => {
            let usual = squashfs::Options::default();
            let block_size = options.cluster_size.map(u32::try_from).transpose();
            let options = squashfs::Options {
                compressor: compressor(options.compress).unwrap_or(usual.compressor),
                level: options.compress.and_then(|method| method.level),
                block_size: block_size
                    .context("--cluster-size: at most 1 MiB")?
                    .unwrap_or(usual.block_size),
                threads,
                time: options.mtime,
            };
            squashfs::write(tree, &options, out, notes, progress)
        }
        other => bail!("{other} is no disk that is written here"),
    }
}

/// That of squashfs.
fn compressor(method: Option<Method>) -> Option<squashfs::Compressor> {
    match method?.compression {
        Compression::None => None,
        Compression::Gzip => Some(squashfs::Compressor::Gzip),
        Compression::Zstd => Some(squashfs::Compressor::Zstd),
        Compression::Xz => Some(squashfs::Compressor::Xz),
        Compression::Lz4 => Some(squashfs::Compressor::Lz4),
    }
}

/// Other trees have other ones, as long as names or metadata differ; contents
/// are not read for it. Version 8 of RFC 9562.
fn uuid_of(tree: &Tree) -> Result<[u8; 16]> {
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
        hasher.update(&size.to_le_bytes());
        Ok(())
    })?;
    let mut uuid = [0; 16];
    hasher.finalize_xof().fill(&mut uuid);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}
