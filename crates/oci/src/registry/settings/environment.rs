//! Surroundings of the process from which settings come: environment variables and directories.
//!
//! Everything that reads settings gets them through [`Environment`], so that a test never
//! depends on the variables and files of the host.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A function that returns the value of a variable.
type Variables = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Environment variables, and the directory that stands for `/` when settings are looked up.
#[derive(Clone)]
pub struct Environment {
    variables: Arc<Variables>,
    root: PathBuf,
}

impl Environment {
    /// An environment whose variables come from `variables`; `etc` and `run` are looked up in
    /// `root`.
    pub fn new(
        variables: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
        root: &Path,
    ) -> Self {
        Self { variables: Arc::new(variables), root: root.to_path_buf() }
    }

    /// The value of a variable; `None` if it is not set or empty.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<OsString> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    /// The value of a variable as text; `None` also if it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.into_string().ok()
    }

    /// The value of a variable as a path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// A path below the home directory.
    #[must_use]
    pub fn in_home(&self, path: &str) -> Option<PathBuf> {
        self.path("HOME").map(|home| home.join(path))
    }

    /// A path below the user's configuration directory (XDG Base Directory Specification).
    #[must_use]
    pub fn in_config(&self, path: &str) -> Option<PathBuf> {
        let dir = self.path("XDG_CONFIG_HOME").or_else(|| self.in_home(".config"));
        dir.map(|dir| dir.join(path))
    }

    /// A path of the system, given without its first `/`.
    #[must_use]
    pub fn in_system(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Default for Environment {
    /// The environment of this process.
    fn default() -> Self {
        Self::new(|name| std::env::var_os(name), Path::new("/"))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("root", &self.root).finish_non_exhaustive()
    }
}
