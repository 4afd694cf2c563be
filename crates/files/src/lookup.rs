//! Look-ups in a root file system, wherever it is: in a directory of the host, or
//! in an image.
//!
//! A root file system is data, perhaps hostile: whoever implements this sees to it
//! that an absolute link in it means its own `/`, and that `..` ends at its top.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A root file system that can be read. Paths are as seen from its `/`.
pub trait Files: Debug {
    /// Canonical path of the directory or image.
    fn path(&self) -> &Path;

    /// Opens the regular file `path` for reading.
    fn file(&self, path: &Path) -> io::Result<File>;

    /// The canonical path outside of this root of what `path` means inside; in an
    /// image, of what would be there if it were a directory.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// The contents of the regular file `path`, at most `limit` bytes of it.
    ///
    /// # Errors
    /// `FileTooLarge` beyond `limit`.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The names in directory `path`, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// Whether `path` is a directory.
    fn is_dir(&self, path: &Path) -> bool;

    /// Whether `path` is a directory and its last part no link to one.
    fn is_real_dir(&self, path: &Path) -> bool;

    /// Where `path`, which is not followed, leads as a link; `None` where it is none.
    fn link(&self, path: &Path) -> Option<PathBuf>;

    /// Whether `path` is a regular file, readable or not.
    fn is_file(&self, path: &Path) -> bool;

    /// What `path` is called outside of this root; for messages and for commands
    /// to be shown, links not resolved.
    fn host_path(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }
}
