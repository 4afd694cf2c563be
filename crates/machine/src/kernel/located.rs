//! A kernel image or a directory of modules, together with the root file system that has
//! it: the host's, a directory, or an image.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use files::lookup::Files;

/// File or directory in a root file system.
#[derive(Clone, Debug)]
pub struct Located {
    /// The root file system.
    pub root: Rc<dyn Files>,
    /// The path in it.
    pub path: PathBuf,
}

impl Located {
    /// The path on the host, for messages; links are not resolved.
    #[must_use]
    pub fn host_path(&self) -> PathBuf {
        self.root.host_path(&self.path)
    }

    /// The path in the form in which a command can name the file, links resolved.
    ///
    /// # Errors
    /// The file does not exist.
    pub fn place(&self) -> Result<CommandPath> {
        let path = self.root.resolve(&self.path);
        let path = path.with_context(|| format!("find {}", self.host_path().display()))?;
        Ok(match self.root.path() {
            directory if directory.is_dir() => CommandPath { image: None, path },
            image => {
                let inside = path.strip_prefix(image).unwrap_or(&path);
                CommandPath { image: Some(image.into()), path: Path::new("/").join(inside) }
            }
        })
    }
}

/// Path of a file as a command names it: on the host, or in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPath {
    /// The image that has the file; `None` if the file is on the host.
    pub image: Option<PathBuf>,
    /// Absolute path on the host, or in the image.
    pub path: PathBuf,
}
