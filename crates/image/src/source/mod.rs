//! Reading a source (a directory, an archive or an image) as a [`Tree`].
//!
//! The contents of files are read when an image is written. So the source must exist until
//! then, and it must be possible to read it by offset. A source without offsets (a
//! compressed archive, a pipe) is copied once into an unlinked file in `$TMPDIR`.
//!
//! | Module | Source |
//! |---|---|
//! | [`dir`] | a directory of the host |
//! | [`cpio`] | an initramfs |
//! | [`tar`] | a tar archive, or a layer of an OCI image |
//! | [`xattr_policy`] | none: selects the extended attributes that the tree keeps |
//!
//! A disk image is read by the module of its format: `erofs`, `ext4` or `squashfs`. [`open`]
//! recognises the format, calls its reader, and drops the extended attributes that
//! [`ReadOptions::xattrs`] does not select.

pub mod cpio;
pub mod dir;
pub mod tar;
#[cfg(test)]
mod tests;
pub mod xattr_policy;

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

use self::xattr_policy::{Origin, Selection};
use crate::edit::ignore::Patterns;
use crate::format::{self, Format};
use crate::tree::Tree;
use crate::{erofs, ext4, squashfs};

/// Identity of a file of the host, independent of its names: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of the file with this metadata.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A source that was read.
#[derive(Debug)]
pub struct Source {
    /// The tree that was read.
    pub tree: Tree,
    /// The format of the source.
    pub format: Format,
    /// The source itself; for a pipe, the copy of it.
    pub file: Arc<File>,
}

/// Options for reading a source.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Extended attributes to keep.
    pub xattrs: Selection,
    /// End of each note about an attribute that is left out because it depends on the host.
    /// A program says here how to keep it.
    pub xattrs_hint: &'static str,
    /// Most bytes of the copy of a source in `$TMPDIR`.
    pub max_size: u64,
    /// Files and directories to leave out of a directory of the host.
    pub left_out: Vec<FileId>,
    /// Paths to leave out of a directory of the host, such as those of a `.dockerignore` file.
    /// A directory that is left out stays if something below it is brought back.
    pub filter: Option<Arc<Patterns>>,
}

/// Most bytes of a copy by default. A root file system should be smaller, and a zstd file of
/// 2 MB that unpacks to terabytes fails within minutes.
pub const SIZE_MAX: u64 = 64 << 30;

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            xattrs: Selection::default(),
            xattrs_hint: "",
            max_size: SIZE_MAX,
            left_out: Vec::new(),
            filter: None,
        }
    }
}

/// Reads the directory, archive or image `path`; `-` means standard input. Notes contain
/// what the tree cannot express.
///
/// # Errors
/// A source in an unknown format, or a damaged one; a copy that would have more than
/// [`ReadOptions::max_size`] bytes.
pub fn open(path: &Path, options: &ReadOptions, notes: &mut Notes) -> Result<Source> {
    let file = match path.as_os_str() == "-" {
        true => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(path),
    };
    let file = file.with_context(|| format!("open {}", path.display()))?;
    read(path, file, options, notes).with_context(|| format!("read {}", path.display()))
}

/// Reads an archive or an image, as [`open`] does.
///
/// # Errors
/// Those of [`open`].
pub fn read_file(file: File, options: &ReadOptions, notes: &mut Notes) -> Result<Source> {
    read(Path::new("."), file, options, notes)
}

fn read(path: &Path, file: File, options: &ReadOptions, notes: &mut Notes) -> Result<Source> {
    let file = seekable(file, options.max_size)?;
    let format = format::recognise(&file)?;
    let file = Arc::new(file);
    let mut tree = match format {
        Format::Dir => {
            let (files, paths) = (&options.left_out[..], options.filter.as_deref());
            dir::read_without(path, dir::Without { files, paths }, notes)?
        }
        Format::Cpio(_) => cpio::read(&file, options.max_size, notes)?,
        Format::Tar(_) => tar::read(&unpacked(&file, options.max_size)?, notes)?,
        Format::Squashfs => squashfs::read(Arc::clone(&file))?,
        Format::Erofs => erofs::read(Arc::clone(&file))?,
        Format::Ext4 => ext4::read(Arc::clone(&file))?,
        Format::OciArchive | Format::OtherDisk(_) | Format::PartitionTable => {
            bail!("{format} is not read here")
        }
    };
    let origin = if format == Format::Dir { Origin::Host } else { Origin::Content };
    xattr_policy::apply(&mut tree, &options.xattrs, origin, options.xattrs_hint, notes);
    Ok(Source { tree, format, file })
}

/// Returns `file` if it can be read by offset, or else a copy of it, such as of a pipe.
///
/// # Errors
/// A copy that would have more than `max_size` bytes ([`TooLarge`]).
pub fn seekable(file: File, max_size: u64) -> Result<File> {
    let kind = file.metadata()?.file_type();
    match kind.is_file() || kind.is_dir() || kind.is_block_device() {
        true => Ok(file),
        false => spool(|out| copy(&file, out, max_size)),
    }
}

/// Copies a file that can be read only once, such as a pipe. Fails beyond `limit` bytes.
fn copy(mut file: &File, out: &mut dyn Write, limit: u64) -> Result<()> {
    let copied = std::io::copy(&mut file.take(limit), out)?;
    // If one more byte can be read, the file has more than `limit` bytes.
    let is_end = copied < limit || file.read(&mut [0])? == 0;
    ensure!(is_end, TooLarge { limit });
    Ok(())
}

/// Unpacks `file` into a copy of at most `limit` bytes; returns `file` itself if it is not
/// compressed.
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

/// Reads `size` bytes at `offset`. Fails if `size` is more than `limit`.
fn bytes_at(file: &File, offset: u64, size: u64, limit: u64) -> Result<Vec<u8>> {
    ensure!(size <= limit, "it has {size} bytes, more than {limit}");
    let mut bytes = Vec::new();
    At { file, offset }.take(size).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 == size, "truncated");
    Ok(bytes)
}

/// A reader of `size` bytes at `offset`, for reading line by line.
fn buffered(file: &File, offset: u64, size: u64) -> impl BufRead {
    BufReader::new(At { file, offset }.take(size))
}

/// Reads a line that is a decimal number without leading zeros.
fn number_line(input: &mut impl BufRead) -> Result<u64> {
    /// Bytes of the longest line: the digits of 2^64, and the newline.
    const LINE_MAX: u64 = 21;
    let mut line = Vec::new();
    input.take(LINE_MAX).read_until(b'\n', &mut line)?;
    let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
    let number = text.and_then(|text| text.parse::<u64>().ok().filter(|n| n.to_string() == text));
    number.context("a line that is not a number")
}
