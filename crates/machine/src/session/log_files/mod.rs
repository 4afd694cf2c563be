//! Log files: the output of a command in `DIR/stdout.log` and `DIR/stderr.log`, rotated by size.
//!
//! When a write would make a file larger than the limit, `stdout.log` is renamed to
//! `stdout.log.1`, `stdout.log.1` to `stdout.log.2`, and so on, and the oldest is removed. A
//! reader that follows the file by its name, as `tail -F` does, reads the old file to its end and
//! then opens the new one.
//!
//! Interfaces: openat(2), renameat(2), flock(2). One machine at a time writes to a directory: it
//! holds an exclusive lock on the directory, which the kernel releases at the end of the process.
//! Only regular files are opened, and links are not followed.
//!
//! | Module | Content |
//! |---|---|
//! | `steps` | which bytes fit, where to rotate, time stamps; pure |
//! | `target` | the files of one stream |

mod steps;
mod target;

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use files::named::Named;
use files::output;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use self::target::LogTarget;
use super::streams::OutputTarget;

/// Size of a log file in bytes at which it is rotated, unless the user gives another one.
pub const DEFAULT_SIZE: u64 = 10 << 20;

/// Smallest size of a log file in bytes that a user may give. A time stamp and the beginning of a
/// line fit into it.
pub const SIZE_MIN: u64 = 4 << 10;

/// Number of old files of a stream that are kept, unless the user gives another one.
pub const DEFAULT_KEEP: u32 = 3;

/// Largest number of old files of a stream. A reader may have all files of both streams open, and
/// the usual limit is 1024.
pub const KEEP_MAX: u32 = 100;

/// Permissions of a directory that is made.
const DIRECTORY_MODE: u32 = 0o700;

/// Number of attempts to lock a directory. A reader locks it for an instant to find out whether a
/// machine writes to it ([`is_written`]).
const LOCK_TRIES: u32 = 10;

/// Time between two attempts to lock a directory.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// An output stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl Named for LogStream {
    const NAMES: &'static [(&'static str, Self, &'static str)] =
        &[("stdout", Self::Output, ""), ("stderr", Self::Error, "")];
}

impl LogStream {
    /// Name of a file of this stream: 0 is the current file, 1 the last one that was rotated.
    #[must_use]
    pub fn file_name(self, number: u32) -> String {
        match number {
            0 => format!("{}.log", self.name()),
            number => format!("{}.log.{number}", self.name()),
        }
    }
}

/// Whether each line begins with the time at which it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// Lines are written as they are.
    Omitted,
    /// Each line begins with a time of [`files::time::timestamp_micros`] and a blank.
    Written,
}

/// Where the output of a command is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Directory of the files; it is made if it is missing.
    pub dir: PathBuf,
    /// Maximum size of a file in bytes, at least 1.
    pub size: u64,
    /// Number of old files of each stream.
    pub keep: u32,
    /// Time stamps.
    pub timestamps: Timestamps,
}

impl LogSettings {
    /// The settings for `dir` with all defaults.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, size: DEFAULT_SIZE, keep: DEFAULT_KEEP, timestamps: Timestamps::Omitted }
    }

    /// Opens the files, for a machine that writes to them until its end.
    ///
    /// # Errors
    /// The directory or a file cannot be made or opened, or another machine writes to them.
    pub fn open(&self) -> Result<LogFiles> {
        let shown = self.dir.display();
        make(&self.dir).with_context(|| format!("make log directory {shown}"))?;
        let path = self.dir.canonicalize();
        let path = path.with_context(|| format!("find log directory {shown}"))?;
        let dir = open_dir(&path).with_context(|| format!("open log directory {shown}"))?;
        let dir = LogDir(Arc::new(lock(dir, &self.dir)?));
        let open = |stream: LogStream| {
            let name = stream.file_name(0);
            let target = LogTarget::open(dir.clone(), stream, self);
            target.map_err(|errno| open_error(errno, &self.dir.join(name)))
        };
        let targets = [open(LogStream::Output)?, open(LogStream::Error)?];
        Ok(LogFiles { path, targets })
    }
}

/// The open log files of a machine.
#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    targets: [LogTarget; 2],
}

impl LogFiles {
    /// Absolute path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The targets for standard output and standard error. The directory is locked until both are
    /// dropped.
    #[must_use]
    pub fn into_targets(self) -> [Box<dyn OutputTarget>; 2] {
        self.targets.map(|target| Box::new(target) as Box<dyn OutputTarget>)
    }
}

/// A locked directory. It is unlocked when the last copy is dropped.
#[derive(Clone, Debug)]
struct LogDir(Arc<Flock<OwnedFd>>);

impl AsFd for LogDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a machine writes to the directory `dir`. A directory that cannot be opened counts as one
/// without a machine.
#[must_use]
pub fn is_written(dir: &Path) -> bool {
    let Ok(dir) = open_dir(dir) else { return false };
    matches!(Flock::lock(dir, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Makes the directory `dir` for this user only, unless it exists. Directories above it get the
/// usual permissions.
fn make(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(output::directory(dir))?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(dir) {
        // Another process has made it meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        result => result,
    }
}

fn open_dir(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY.bits();
    Ok(File::options().read(true).custom_flags(flags).open(path)?.into())
}

/// Locks the directory `path`, which is open as `dir`.
fn lock(mut dir: OwnedFd, path: &Path) -> Result<Flock<OwnedFd>> {
    let shown = path.display();
    for _ in 0..LOCK_TRIES {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) => dir = back,
            Err((_, errno)) => bail!("lock log directory {shown}: {}", errno.desc()),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    bail!("log directory {shown}: another machine writes to it; give each machine one of its own")
}

/// Error of opening the log file `path`.
fn open_error(errno: Errno, path: &Path) -> anyhow::Error {
    let hint = match errno {
        Errno::ELOOP | Errno::EISDIR | Errno::ENXIO | target::NOT_REGULAR => {
            ": it is no regular file; remove it"
        }
        _ => "",
    };
    anyhow!("open log file {}: {}{hint}", path.display(), errno.desc())
}

#[cfg(test)]
mod tests;
