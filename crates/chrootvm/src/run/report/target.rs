//! FILE of `--report`.
//!
//! Interface: `/proc/PID/fd`, proc_pid_fd(5). Opening such a name opens the file again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::output::{Output, is_stdout};
use files::tell;
use machine::process::signals;

use super::document::Document;
use super::junit;
use crate::json;

/// Ending of a file that gets JUnit's XML.
const XML: &str = "xml";

/// Destination of a report.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    /// The file, if it is one that cannot be replaced: standard output, a descriptor, a pipe or a
    /// device. `None`: the file is made at the end, so that nothing is left if chrootvm is killed.
    file: Option<File>,
}

impl Target {
    /// Checks that `path` can be written. What cannot be replaced is opened.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn prepare(path: &Path) -> Result<Self> {
        let file = match is_descriptor(path) {
            // A shell has opened it, perhaps to append to it.
            true => Some(append(path).with_context(|| format!("write {}", path.display()))?),
            false => Output::create(path)?.into_unreplaceable(),
        };
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Writes `document`, as JSON or as XML.
    ///
    /// # Errors
    /// It cannot be written; a regular file stays as it was.
    pub(super) fn write(self, document: &Document) -> Result<()> {
        let text = match self.path.extension() {
            Some(ending) if ending == XML => junit::text(document),
            _ => json::line(document)?,
        };
        let Some(mut file) = self.file else {
            return files::output::write(&self.path, text.as_bytes());
        };
        // A reader may never read. Signals must still end this program.
        signals::let_through();
        let written = file.write_all(text.as_bytes());
        tell::while_read(written.with_context(|| format!("write {}", self.path.display())))
    }
}

/// Whether `path` means a descriptor of this program, and not standard output.
fn is_descriptor(path: &Path) -> bool {
    let dirs = ["/dev/fd", "/proc/self/fd"];
    let is_in = path.parent().is_some_and(|dir| dirs.iter().any(|name| dir == Path::new(name)));
    !is_stdout(path) && (is_in || path == Path::new("/dev/stderr"))
}

fn append(path: &Path) -> std::io::Result<File> {
    File::options().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_descriptor_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all");
        std::fs::write(&path, "before\n").unwrap();
        let held = File::options().append(true).open(&path).unwrap();
        let name = format!("/proc/self/fd/{}", held.as_raw_fd());
        let mut target = Target::prepare(Path::new(&name)).unwrap();
        target.file.as_mut().unwrap().write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn names_of_descriptors_are_known() {
        for (path, expected) in [
            ("/dev/fd/3", true),
            ("/proc/self/fd/12", true),
            ("/dev/stderr", true),
            ("/dev/fd/1", false),
            ("/dev/stdout", false),
            ("-", false),
            ("/dev/null", false),
            ("fd/3", false),
        ] {
            assert_eq!(is_descriptor(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_file_is_not_made_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::prepare(&dir.path().join("report")).unwrap();
        assert!(target.file.is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let missing = Target::prepare(&dir.path().join("missing/report")).unwrap_err();
        assert!(format!("{missing:#}").contains("No such file"), "{missing:#}");
        assert!(Target::prepare(dir.path()).is_err());
    }
}
