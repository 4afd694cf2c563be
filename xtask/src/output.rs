//! Output files that appear whole or not at all.
//!
//! Interface: rename(2), which replaces a name atomically.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Writes `bytes` to `path`, or to standard output where `path` is `-`.
///
/// A regular file is replaced in one step, or kept as it was on any error. What
/// is not a regular file (a pipe, a device) cannot be replaced and is written to.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.as_os_str() == "-" {
        return std::io::stdout().lock().write_all(bytes).context("write to standard output");
    }
    // A link to a file: the file is replaced, the link stays.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let result = match target.metadata() {
        Ok(metadata) if !metadata.is_file() => std::fs::write(&target, bytes).map_err(Into::into),
        _ => without_signals(|| replace(&target, bytes)),
    };
    result.with_context(|| format!("write {}", path.display()))
}

fn replace(target: &Path, bytes: &[u8]) -> Result<()> {
    /// What open(2) gives a new file; the umask takes its part.
    const MODE: u32 = 0o666;
    let dir = match target.parent() {
        Some(dir) if dir != Path::new("") => dir.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".virtinitrd-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.persist(target)?;
    Ok(())
}

/// Runs `body` with the signals that end a program held back, so that none of
/// them can leave its temporary file behind.
pub(crate) fn without_signals<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let signals: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
    let before = signals.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let result = body();
    before.thread_set_mask()?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let link = dir.path().join("link");
        write(&path, b"one").unwrap();
        std::os::unix::fs::symlink("out", &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing/out");
        let error = format!("{:#}", write(&missing, b"x").unwrap_err());
        assert!(error.contains("missing/out") && error.contains("No such file"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_device_is_written_to_not_replaced() {
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
