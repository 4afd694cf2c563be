//! Look-ups of files in a root file system: a directory of the host, or an image.
//!
//! A root file system is not trusted. Implementations must ensure that an absolute link
//! starts at the root file system's own `/`, and that `..` does not leave it.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A root file system that can be read. Paths start at its own `/`.
pub trait Files: Debug {
    /// Canonical path of the directory or image.
    fn path(&self) -> &Path;

    /// Opens the regular file `path` for reading.
    fn file(&self, path: &Path) -> io::Result<File>;

    /// The path on the host of the file that `path` leads to, with all links resolved. For
    /// an image, this is the path that the file would have if the image were a directory.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// The contents of the regular file `path`.
    ///
    /// # Errors
    /// `FileTooLarge` if the file has more than `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The names in directory `path`, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// Whether `path` is a directory, or a link to one.
    fn is_dir(&self, path: &Path) -> bool;

    /// Whether `path` is a directory. Unlike [`Files::is_dir`], a link to a directory does
    /// not count.
    fn is_real_dir(&self, path: &Path) -> bool;

    /// The target of the symbolic link `path`; `None` if `path` is not a link.
    fn link(&self, path: &Path) -> Option<PathBuf>;

    /// Whether `path` is a regular file, readable or not.
    fn is_file(&self, path: &Path) -> bool;

    /// The path on the host for messages and for printed commands. Links are not resolved.
    fn host_path(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }
}
