//! A private directory in `$TMPDIR` that is gone after this program, however it ends.
//!
//! A child of this program, the guardian, waits for the end of a socket: the kernel closes our end
//! when we end, by a signal, too. The guardian is in a process group of its own and blocks the
//! signals by which users end a program.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use files::output;
use tempfile::TempDir;

/// Name of the subcommand that runs [`guard`].
pub const SUBCOMMAND: &str = "guard-directory";

/// Prefix of the directory's name.
const PREFIX: &str = "virtinitrd-";

/// Message to the guardian that the directory is gone.
const GONE: [u8; 1] = [b'.'];

/// A private directory. It is removed at the end.
#[derive(Debug)]
pub(super) struct GuardedDir {
    /// `None` once the directory is removed.
    dir: Option<TempDir>,
    guardian: Child,
    stream: UnixStream,
}

impl GuardedDir {
    /// Makes the directory, and starts the guardian.
    ///
    /// # Errors
    /// `$TMPDIR` does not exist, or cannot be written to; the guardian cannot be started.
    pub(super) fn new() -> Result<Self> {
        let place = std::env::temp_dir();
        let making = || format!("make a directory in {}", place.display());
        // The guardian inherits the blocked signals, so none can end it before it blocks them.
        output::without_signals(|| {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().with_context(making)?;
            let (stream, theirs) = UnixStream::pair().context("make a socket")?;
            let guardian = Command::new("/proc/self/exe")
                .arg(SUBCOMMAND)
                .arg(dir.path())
                .stdin(OwnedFd::from(theirs))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .context("start the guardian of a directory")?;
            Ok(Self { dir: Some(dir), guardian, stream })
        })
    }

    /// Path of the directory.
    ///
    /// # Errors
    /// The directory is removed.
    pub(super) fn path(&self) -> Result<&Path> {
        self.dir.as_ref().map(TempDir::path).context("the directory is removed")
    }
}

impl Drop for GuardedDir {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.dir.take().map(TempDir::close) {
            log::warn!("remove a temporary directory: {error}");
        }
        // Errors are ignored: the guardian may have ended.
        let _ = self.stream.write_all(&GONE);
        let _ = self.guardian.wait();
    }
}

/// Body of [`SUBCOMMAND`], with the argument `DIRECTORY`: waits until the parent ends, and removes
/// the directory unless the parent has done so.
///
/// # Errors
/// No directory is given, or it cannot be removed.
pub fn guard(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let path = arguments.next().context("no directory given")?;
    output::without_signals(|| {
        let mut word = GONE;
        if std::io::stdin().read_exact(&mut word).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", Path::new(&path).display()))
            }
            _ => Ok(()),
        }
    })
}
