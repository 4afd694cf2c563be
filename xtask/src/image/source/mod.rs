//! What images are made of, as a [`Tree`].
//!
//! Contents are read when they are written, so a source must be there until then,
//! and every byte of it must have an address. What has none, compressed archives
//! and pipes, is copied once into an unlinked file in `$TMPDIR`.

pub mod cpio;
pub mod dir;
mod pax;
mod sparse;
pub mod tar;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::content::At;
use super::format::{self, Format};
use super::notes::Notes;
use super::tree::Tree;
use super::{erofs, ext4, squashfs};
use crate::archive::stream;

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

/// Reads the directory, archive or image `path`; `-` is standard input.
///
/// # Errors
/// What is in none of the formats that are read here, or damaged.
pub fn open(path: &Path, notes: &mut Notes) -> Result<Source> {
    let file = match path.as_os_str() == "-" {
        true => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(path),
    };
    let file = file.with_context(|| format!("open {}", path.display()))?;
    read(path, file, notes).with_context(|| format!("read {}", path.display()))
}

fn read(path: &Path, file: File, notes: &mut Notes) -> Result<Source> {
    let kind = file.metadata()?.file_type();
    let file = match kind.is_file() || kind.is_dir() || kind.is_block_device() {
        true => file,
        false => spool(|out| Ok(std::io::copy(&mut &file, out).map(drop)?))?,
    };
    let format = format::recognise(&file)?;
    let file = Arc::new(file);
    let tree = match format {
        Format::Dir => dir::read(path, notes)?,
        Format::Cpio(_) => cpio::read(&file)?,
        Format::Tar(_) => tar::read(&unpacked(&file)?, notes)?,
        Format::Squashfs => squashfs::read(Arc::clone(&file))?,
        Format::Erofs => erofs::read(Arc::clone(&file))?,
        Format::Ext4 => ext4::read(Arc::clone(&file))?,
        Format::OtherDisk(_) | Format::PartitionTable => bail!("{format} is not read here"),
    };
    Ok(Source { tree, format, file })
}

/// A file that has no name, with what `body` writes.
fn spool(body: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<File> {
    let file = tempfile::tempfile().context("make a temporary file")?;
    let mut out = BufWriter::with_capacity(BUFFER, &file);
    body(&mut out).and_then(|()| Ok(out.flush()?)).with_context(|| {
        format!("unpack into {} ($TMPDIR names another place)", std::env::temp_dir().display())
    })?;
    drop(out);
    Ok(file)
}

/// Bytes that are read or written at a time.
const BUFFER: usize = 1 << 18;

/// `file`, or what is in the containers that it consists of.
fn unpacked(file: &Arc<File>) -> Result<Arc<File>> {
    let mut input = BufReader::with_capacity(BUFFER, At { file, offset: 0 });
    let mut is_packed = false;
    let unpacked = spool(|out| {
        while stream::decompress(&mut input, out, u64::MAX)?.is_some() {
            is_packed = true;
        }
        Ok(())
    })?;
    Ok(if is_packed { Arc::new(unpacked) } else { Arc::clone(file) })
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
