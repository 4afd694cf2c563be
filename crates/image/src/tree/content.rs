//! Contents of regular files, by reference: a tree does not hold the bytes of files.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use files::lookup::Files;
use files::root_dir::RootDir;

use super::pieces::{Piece, PieceReader, Pieces, Reader};

/// Bytes that are passed over at a time.
const PASS: u64 = 1 << 20;

/// Reference to the bytes of a regular file. A clone is cheap.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory; for small files that this program makes.
    Bytes(Arc<[u8]>),
    /// A file of the host.
    Host {
        /// The directory of the file; all files of a directory share it.
        directory: Arc<HostDirectory>,
        /// The file's name in the directory.
        name: Box<[u8]>,
        /// Bytes of the file when the tree was read.
        size: u64,
    },
    /// One part of a file, such as an uncompressed archive.
    Part {
        /// The archive.
        archive: Arc<File>,
        /// Offset of the first byte in the archive.
        offset: u64,
        /// Number of bytes.
        size: u64,
    },
    /// A file in an image whose format has its own way to store files.
    Stored(Arc<dyn Stored>),
}

/// A file that an image stores in pieces, compressed, or with holes.
pub trait Stored: fmt::Debug + Send + Sync {
    /// Size of the file in bytes.
    fn size(&self) -> u64;

    /// Opens the contents at their start. The reader returns exactly [`Stored::size`]
    /// bytes, or an error.
    fn open(&self) -> Result<Box<dyn Reader + '_>>;
}

/// Size in bytes of a regular file or a block device. The metadata of a device do not tell
/// its size, so this seeks to its end.
///
/// # Errors
/// A file that cannot seek, such as a pipe.
pub fn file_length(mut file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    file.seek(SeekFrom::End(0))
}

/// A directory of the host from which a tree, or a part of it, was read.
#[derive(Debug)]
pub struct HostDirectory {
    /// The root directory of the tree; no look-up leaves it.
    pub root: Arc<RootDir>,
    /// The path from the root to this directory.
    pub path: PathBuf,
}

impl HostDirectory {
    /// Opens the regular file `name`. If another kind of file has taken its place since
    /// the tree was read, this is an error.
    fn file(&self, name: &[u8]) -> Result<File> {
        let path = self.path.join(OsStr::from_bytes(name));
        let file = self.root.regular_file(&path);
        file.with_context(|| self.root.host_path(&path).display().to_string())
    }
}

impl Content {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Host { size, .. } | Self::Part { size, .. } => *size,
            Self::Stored(stored) => stored.size(),
        }
    }

    /// Opens the contents at their start. The reader returns exactly [`Content::size`]
    /// bytes, or an error.
    ///
    /// # Errors
    /// A file of the host that cannot be opened any more.
    pub fn open(&self) -> Result<Box<dyn Reader + '_>> {
        self.open_at(0)
    }

    /// Opens the contents at byte `at`. Only contents that are stored in pieces are read up to
    /// there; at the end and behind it, there is nothing to read.
    ///
    /// # Errors
    /// Those of [`Content::open`].
    pub fn open_at(&self, at: u64) -> Result<Box<dyn Reader + '_>> {
        let at = at.min(self.size());
        Ok(match self {
            Self::Bytes(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
                Box::new(rest.unwrap_or_default())
            }
            Self::Host { directory, name, size } => {
                let file = directory.file(name)?;
                Box::new(PieceReader::new(FilePart { file, offset: at, size: size - at }))
            }
            Self::Stored(stored) => {
                let mut reader = stored.open()?;
                pass(&mut *reader, at)?;
                reader
            }
            Self::Part { archive, offset, size } => {
                let file = Arc::clone(archive);
                let offset = offset.checked_add(at).context("it begins beyond 2^64 bytes")?;
                Box::new(PieceReader::new(FilePart { file, offset, size: size - at }))
            }
        })
    }
}

/// Passes over `count` bytes.
fn pass(reader: &mut dyn Reader, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let hole = reader.hole()?.min(count);
        if hole > 0 {
            reader.skip(hole);
            count -= hole;
            continue;
        }
        // Look for a hole again after each part.
        let part = count.min(PASS);
        if io::copy(&mut reader.take(part), &mut io::sink())? < part {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count -= part;
    }
    Ok(())
}

/// Part of a file, from `offset` on. If the file has grown since the tree was read, the
/// part keeps its size; if the file has become too short, reading is an error.
struct FilePart<F> {
    file: F,
    offset: u64,
    size: u64,
}

impl<F: Borrow<File> + Send> Pieces for FilePart<F> {
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
    fn contents_keep_the_size_of_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"0123456789").unwrap();
        let root = Arc::new(RootDir::open(dir.path()).unwrap());
        let archive = Arc::new(File::open(dir.path().join("f")).unwrap());
        let directory = Arc::new(HostDirectory { root, path: PathBuf::new() });
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
        let stored = Content::Stored(Arc::new(Twice(part.clone())));
        let bytes = Content::Bytes(b"3456"[..].into());
        for content in [part, bytes, host(4), stored] {
            let whole = read(&content).unwrap();
            for at in 0..12 {
                let mut rest = Vec::new();
                content.open_at(at).unwrap().read_to_end(&mut rest).unwrap();
                let at = usize::try_from(at).unwrap().min(whole.len());
                assert_eq!(rest, whole[at..], "{content:?} {at}");
            }
        }
    }

    /// Contents that are stored in another way: other contents.
    #[derive(Debug)]
    struct Twice(Content);

    impl Stored for Twice {
        fn size(&self) -> u64 {
            self.0.size()
        }

        fn open(&self) -> Result<Box<dyn Reader + '_>> {
            self.0.open()
        }
    }
}
