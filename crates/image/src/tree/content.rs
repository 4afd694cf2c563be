//! The bytes of regular files in a [`super::tree::Tree`], by reference.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use files::lookup::Files;
use files::root_dir::RootDir;

use super::pieces::{Piece, PieceReader, Pieces, Reader};

/// The bytes of a regular file, without holding them.
#[derive(Clone, Debug)]
pub enum Content {
    /// Made by us, and small.
    Bytes(Arc<[u8]>),
    /// A file of the host; `size` is what it had when the tree was read.
    Host {
        /// Where it is, which many files share.
        directory: Arc<Directory>,
        /// Its name there.
        name: Box<[u8]>,
        /// Bytes.
        size: u64,
    },
    /// A part of an archive that is not compressed.
    Part {
        /// The archive.
        archive: Arc<File>,
        /// Its first byte there.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// In an image, in its own way.
    Stored(Arc<dyn Stored>),
}

/// The bytes of a file in an image: in pieces, compressed, or with holes.
pub trait Stored: fmt::Debug + Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;

    /// Reads it from the start; gives exactly [`Stored::size`] bytes or an error.
    fn open(&self) -> Result<Box<dyn Reader + '_>>;
}

/// Size in bytes of a file or a block device; the metadata of a device do not tell it.
///
/// # Errors
/// What cannot be read by offset, as a pipe.
pub fn length(mut file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    file.seek(SeekFrom::End(0))
}

/// A directory of the host that is at or below the root of a tree.
#[derive(Debug)]
pub struct Directory {
    /// The root, which no look-up leaves.
    pub root: Arc<RootDir>,
    /// The path from there.
    pub path: PathBuf,
}

impl Directory {
    /// Opens the regular file `name`, which was one when the tree was read.
    fn file(&self, name: &[u8]) -> Result<File> {
        let path = self.path.join(OsStr::from_bytes(name));
        let file = self.root.regular_file(&path);
        file.with_context(|| self.root.host_path(&path).display().to_string())
    }
}

impl Content {
    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Host { size, .. } | Self::Part { size, .. } => *size,
            Self::Stored(stored) => stored.size(),
        }
    }

    /// Reads it from the start; gives exactly [`Content::size`] bytes or an error.
    ///
    /// # Errors
    /// A file that cannot be opened any more.
    pub fn open(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(&bytes[..]),
            Self::Host { directory, name, size } => {
                let file = directory.file(name)?;
                Box::new(PieceReader::new(Stretch { file, offset: 0, size: *size }))
            }
            Self::Stored(stored) => stored.open()?,
            Self::Part { archive, offset, size } => {
                let file = Arc::clone(archive);
                Box::new(PieceReader::new(Stretch { file, offset: *offset, size: *size }))
            }
        })
    }
}

/// A part of a file whose size is known already: if the file has grown since, the part
/// stays as it is; if it has become too short, reading is an error.
struct Stretch<F> {
    file: F,
    offset: u64,
    size: u64,
}

impl<F: Borrow<File> + Send> Pieces for Stretch<F> {
    fn size(&self) -> u64 {
        self.size
    }

    fn file(&self) -> &File {
        self.file.borrow()
    }

    fn piece(&self, position: u64) -> Result<Piece> {
        let at = self.offset.checked_add(position).context("it ends beyond 2^64 bytes")?;
        Ok(Piece { at: Some(at), length: self.size - position })
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match self.file().read_exact_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                bail!("the file has become shorter")
            }
            read => Ok(read?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_the_size_they_were_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"0123456789").unwrap();
        let root = Arc::new(RootDir::open(dir.path()).unwrap());
        let archive = Arc::new(File::open(dir.path().join("f")).unwrap());
        let directory = Arc::new(Directory { root, path: PathBuf::new() });
        let host =
            |size| Content::Host { directory: Arc::clone(&directory), name: (*b"f").into(), size };
        let read = |content: &Content| {
            let mut bytes = Vec::new();
            content.open().unwrap().read_to_end(&mut bytes).map(|_| bytes)
        };
        assert_eq!(read(&host(4)).unwrap(), b"0123");
        assert!(read(&host(11)).is_err());
        let part = Content::Part { archive, offset: 3, size: 4 };
        assert_eq!(read(&part).unwrap(), b"3456");
    }
}
