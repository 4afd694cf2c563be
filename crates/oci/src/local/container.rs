//! The files of an image on this host: a directory, or a tar archive that is read by offset.
//!
//! Neither is trusted: a link never leads out of the directory or the archive, and only regular
//! files are read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use archive::bytes::At;
use files::lookup::Files;
use files::notes::Notes;
use files::root_dir::RootDir;
use image::format::Format;
use image::source::{self, ReadOptions};
use image::tree::{Content, Kind, Tree};

/// A directory or an archive.
#[derive(Debug)]
pub(super) enum Container {
    /// A directory.
    Directory(RootDir),
    /// The members of an archive.
    Archive(Tree),
}

impl Container {
    /// The directory `path`.
    pub(super) fn directory(path: &Path) -> Result<Self> {
        Ok(Self::Directory(RootDir::open(path)?))
    }

    /// The tar archive `path`; `-` is standard input. One that is compressed or cannot be read
    /// by offset is first copied into an unlinked file of at most `max_size` bytes.
    pub(super) fn archive(path: &Path, max_size: u64) -> Result<Self> {
        ensure!(!path.is_dir(), "{} is a directory", path.display());
        let options = ReadOptions { max_size, ..ReadOptions::default() };
        // What an archive of an image loses as a tree is of no importance for its files.
        let source = source::open(path, &options, &mut Notes::default())?;
        match source.format {
            Format::Tar(_) => Ok(Self::Archive(source.tree)),
            format => bail!("{}: {format}, not a tar archive", path.display()),
        }
    }

    /// Whether there is a regular file `path`.
    pub(super) fn has(&self, path: &Path) -> bool {
        match self {
            Self::Directory(root) => root.is_file(path),
            Self::Archive(_) => self.content(path).is_ok(),
        }
    }

    /// The contents of the file `path`, of at most `limit` bytes.
    pub(super) fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let context = || path.display().to_string();
        let mut bytes = Vec::new();
        let input = self.open(path)?;
        input.take(limit + 1).read_to_end(&mut bytes).with_context(context)?;
        ensure!(bytes.len() as u64 <= limit, "{}: more than {limit} bytes", path.display());
        Ok(bytes)
    }

    /// Bytes of the file `path`.
    pub(super) fn size(&self, path: &Path) -> Result<u64> {
        Ok(match self {
            Self::Directory(_) => self.file(path)?.metadata()?.len(),
            Self::Archive(_) => self.content(path)?.size(),
        })
    }

    /// Opens the file `path` at its start.
    pub(super) fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>> {
        self.open_at(path, 0)
    }

    /// Opens the file `path` at `offset`.
    pub(super) fn open_at(&self, path: &Path, offset: u64) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Directory(_) => {
                let mut file = self.file(path)?;
                file.seek(SeekFrom::Start(offset)).with_context(|| path.display().to_string())?;
                Ok(Box::new(file))
            }
            Self::Archive(_) => match self.content(path)? {
                Content::Part { archive, offset: start, size } => {
                    let archive = Arc::clone(archive);
                    Ok(Box::new(PartReader { archive, start: *start, size: *size, offset }))
                }
                _ => bail!(
                    "{}: a sparse file, which no archive of an image has; write the archive \
                     again without sparse files",
                    path.display()
                ),
            },
        }
    }

    fn file(&self, path: &Path) -> Result<File> {
        let Self::Directory(root) = self else { bail!("not a directory") };
        root.file(path).with_context(|| path.display().to_string())
    }

    fn content(&self, path: &Path) -> Result<&Content> {
        let Self::Archive(tree) = self else { bail!("not an archive") };
        let found = tree.resolve(path.as_os_str().as_bytes());
        match &tree.node(found.with_context(|| path.display().to_string())?).kind {
            Kind::File(content) => Ok(content),
            _ => bail!("{}: not a regular file", path.display()),
        }
    }
}

/// Reader of a member of an archive.
struct PartReader {
    archive: Arc<File>,
    /// Offset of the member's data in the archive.
    start: u64,
    /// Bytes of the data.
    size: u64,
    /// Number of bytes before the next one to read.
    offset: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.offset);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut input = At { file: &self.archive, offset: self.start + self.offset };
        let count = input.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::file;

    #[test]
    fn members_are_read_from_an_offset_and_sparse_ones_are_refused() {
        let mut archive = tar::Builder::new(Vec::new());
        let sparse = [("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.map", b"0,4")];
        for (path, records) in [("plain", &[][..]), ("sparse", &sparse)] {
            archive.append_pax_extensions(records.iter().copied()).unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_size(4);
            archive.append_data(&mut header, path, &b"data"[..]).unwrap();
        }
        let archive = file(&archive.into_inner().unwrap());
        let container = Container::archive(archive.path(), 1 << 20).unwrap();
        let mut text = String::new();
        container.open_at(Path::new("plain"), 2).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "ta");
        let error = container.open(Path::new("sparse")).err().unwrap();
        assert!(error.to_string().contains("sparse: a sparse file"), "{error:#}");
    }
}
