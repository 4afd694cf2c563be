//! What images are made of, as a [`Tree`].
//!
//! Contents are read when they are written, so a source must be there until then,
//! and every byte of it must have an address. What has none, compressed archives
//! and pipes, is copied once into an unlinked file in `$TMPDIR`.

pub mod cpio;
pub mod dir;
mod pax;
mod pax_xattrs;
mod sparse;
mod sparse_map;
pub mod tar;
mod tar_blocks;
#[cfg(test)]
mod tests;

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use archive::bytes::At;
use archive::compress::{Unpacked, unpack};
use archive::spool::{BUFFER, TooLarge, spool};
use files::notes::Notes;

use super::format::{self, Format};
use super::tree::Tree;
use super::xattr_policy::{self, Origin, Selection};
use super::{erofs, ext4, squashfs};

/// A file of the host, whatever its names: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that has this metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Something that was read.
#[derive(Debug)]
pub struct Source {
    /// What is in it.
    pub tree: Tree,
    /// What it is.
    pub format: Format,
    /// It, or a copy of it.
    pub file: Arc<File>,
}

/// How a source is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Extended attributes to keep.
    pub xattrs: Selection,
    /// Most bytes that a source may have as a copy in `$TMPDIR`.
    pub max_size: u64,
    /// Files to leave out of a directory.
    pub left_out: Vec<FileId>,
}

/// Most bytes of a copy where nothing else is asked for: more than any root file
/// system should have, and few enough for a zstd bomb of 2 MB to end in minutes.
const SIZE_MAX: u64 = 64 << 30;

impl Default for Options {
    fn default() -> Self {
        Self { xattrs: Selection::default(), max_size: SIZE_MAX, left_out: Vec::new() }
    }
}

/// Reads the directory, archive or image `path`; `-` is standard input.
///
/// # Errors
/// What is in none of the formats that are read here, or damaged.
pub fn open(path: &Path, options: &Options, notes: &mut Notes) -> Result<Source> {
    let file = match path.as_os_str() == "-" {
        true => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(path),
    };
    let file = file.with_context(|| format!("open {}", path.display()))?;
    read(path, file, options, notes).with_context(|| format!("read {}", path.display()))
}

fn read(path: &Path, file: File, options: &Options, notes: &mut Notes) -> Result<Source> {
    let kind = file.metadata()?.file_type();
    let file = match kind.is_file() || kind.is_dir() || kind.is_block_device() {
        true => file,
        false => spool(|out| copy(&file, out, options.max_size))?,
    };
    let format = format::recognise(&file)?;
    let file = Arc::new(file);
    let mut tree = match format {
        Format::Dir => dir::read_without(path, &options.left_out, notes)?,
        Format::Cpio(_) => cpio::read(&file, options.max_size, notes)?,
        Format::Tar(_) => tar::read(&unpacked(&file, options.max_size)?, notes)?,
        Format::Squashfs => squashfs::read(Arc::clone(&file))?,
        Format::Erofs => erofs::read(Arc::clone(&file))?,
        Format::Ext4 => ext4::read(Arc::clone(&file))?,
        Format::OtherDisk(_) | Format::PartitionTable => bail!("{format} is not read here"),
    };
    let origin = if format == Format::Dir { Origin::Host } else { Origin::Content };
    xattr_policy::apply(&mut tree, &options.xattrs, origin, notes);
    Ok(Source { tree, format, file })
}

/// Copies a file that can be read only once.
fn copy(mut file: &File, out: &mut dyn Write, limit: u64) -> Result<()> {
    let copied = std::io::copy(&mut file.take(limit), out)?;
    // One byte more shows that there are too many.
    let is_end = copied < limit || file.read(&mut [0])? == 0;
    ensure!(is_end, TooLarge { limit });
    Ok(())
}

/// `file`, or what is in the containers that it consists of: at most `limit` bytes.
fn unpacked(file: &Arc<File>, limit: u64) -> Result<Arc<File>> {
    let mut found = None;
    let unpacked = spool(|out| {
        let mut input = BufReader::with_capacity(BUFFER, At { file, offset: 0 });
        found = unpack(&mut input, out, limit)?;
        Ok(())
    })?;
    let Some(Unpacked { compression, end, .. }) = found else { return Ok(Arc::clone(file)) };
    let is_end = At { file, offset: end }.read(&mut [0])? == 0;
    ensure!(is_end, "offset {end}: neither {compression} nor padding");
    Ok(Arc::new(unpacked))
}

/// Reads `size` bytes at `offset`, at most `limit`.
fn bytes_at(file: &File, offset: u64, size: u64, limit: u64) -> Result<Vec<u8>> {
    ensure!(size <= limit, "it has {size} bytes, more than {limit}");
    let mut bytes = Vec::new();
    At { file, offset }.take(size).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == size, "truncated");
    Ok(bytes)
}

/// As [`bytes_at`], to be read line by line.
fn buffered(file: &File, offset: u64, size: u64) -> impl BufRead {
    BufReader::new(At { file, offset }.take(size))
}

/// A decimal number without leading zeroes, and the newline behind it.
fn number_line(input: &mut impl BufRead) -> Result<u64> {
    /// Digits of 2^64, and a newline.
    const LINE_MAX: u64 = 21;
    let mut line = Vec::new();
    input.take(LINE_MAX).read_until(b'\n', &mut line)?;
    let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
    let number = text.and_then(|text| text.parse::<u64>().ok().filter(|n| n.to_string() == text));
    number.context("a line with no number")
}
