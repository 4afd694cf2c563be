//! Output files that appear whole or not at all.
//!
//! Interfaces: rename(2), which replaces a name atomically; `O_TMPFILE` of open(2),
//! which makes a file that is gone with its process until it has a name. A file that
//! replaces another takes its owner and permissions; until then only we can read it. An
//! output that is no regular file is written to as it is.

use std::fs::{File, Metadata, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

const STDOUT: &str = "standard output";

/// How names of what is not whole begin.
pub const PREFIX: &str = ".virtinitrd-";

/// Permissions that open(2) gives a new file; the umask takes its part.
const MODE: u32 = 0o666;
/// Permissions of a file that will replace another, until it does.
const PRIVATE: u32 = 0o600;
/// Permissions that a replaced file hands on: all but the set-id bits, which nobody
/// expects on a new file.
const KEPT: u32 = 0o777;
/// Permissions of the group.
const GROUP: u32 = 0o070;

/// Writes `bytes` to `path`, or to standard output where `path` is `-`.
///
/// A regular file is replaced in one step, or kept as it was on any error. What
/// is not a regular file (a pipe, a device) cannot be replaced and is written to.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.file.write_all(bytes).with_context(|| format!("write {}", path.display()))?;
    output.commit()
}

/// A file that is being written. Without [`Output::commit`] it leaves nothing,
/// whatever ends this program; but see `place` for some network file systems.
#[derive(Debug)]
pub struct Output {
    /// To be written to.
    pub file: File,
    path: PathBuf,
    state: State,
    /// The file that it replaces.
    old: Option<Metadata>,
}

#[derive(Debug)]
enum State {
    /// Written to as it is.
    InPlace,
    /// To be called so.
    Nameless(PathBuf),
    /// It has a name, and is to be called otherwise.
    Named(TempPath, PathBuf),
}

impl Output {
    /// A file that will be `path`; standard output where that is `-`. What is not
    /// a regular file is opened.
    ///
    /// # Errors
    /// A directory that is missing or that may not be written to.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, state, old) = match is_stdout(path) {
            true => (stdout()?, State::InPlace, None),
            false => place(path).with_context(|| format!("write {}", path.display()))?,
        };
        Ok(Self { file, path: path.to_path_buf(), state, old })
    }

    /// Lets the file take its name.
    ///
    /// # Errors
    /// Those of rename(2); the old file is kept.
    pub fn commit(self) -> Result<()> {
        let Self { file, path, state, old } = self;
        let kept = old.map_or(Ok(()), |old| keep(&file, &old));
        let result = kept.and_then(|()| match state {
            State::InPlace => Ok(()),
            State::Named(temporary, target) => temporary.persist(target).map_err(Into::into),
            State::Nameless(target) => without_signals(|| replace(&file, &target)),
        });
        result.with_context(|| format!("write {}", path.display()))
    }
}

/// Standard output without the standard library's, which takes one that is not open for
/// writing as one that nobody reads.
///
/// # Errors
/// One that is not open for writing, as where a shell has closed it (`>&-`).
pub fn stdout() -> Result<File> {
    let file = File::from(std::io::stdout().as_fd().try_clone_to_owned().context(STDOUT)?);
    let flags = rustix::fs::fcntl_getfl(&file).context(STDOUT)?;
    ensure!(flags & OFlags::ACCMODE != OFlags::RDONLY, "{STDOUT} is not open for writing");
    Ok(file)
}

/// Whether `path` stands for standard output, which a shell has opened: its file is
/// written to, and not replaced behind the shell's back.
fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// The file that an output to `path` would replace or be written to.
#[must_use]
pub fn existing(path: &Path) -> Option<Metadata> {
    match is_stdout(path) {
        true => File::from(std::io::stdout().as_fd().try_clone_to_owned().ok()?).metadata().ok(),
        false => path.metadata().ok(),
    }
}

/// Gives `file` the owner and the permissions of `old`; if the group cannot be set, the
/// group of `file` gets no permissions.
fn keep(file: &File, old: &Metadata) -> Result<()> {
    let own = file.metadata()?;
    let mut mode = old.mode() & KEPT;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        // Only root may give files away; a member of the group may set that.
        let is_owner_kept = std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()));
        let is_group_kept = is_owner_kept
            .or_else(|_| std::os::unix::fs::fchown(file, None, Some(old.gid())))
            .is_ok();
        mode &= if is_group_kept { KEPT } else { !GROUP };
    }
    Ok(file.set_permissions(Permissions::from_mode(mode))?)
}

fn place(path: &Path) -> Result<(File, State, Option<Metadata>)> {
    // A link to a file: the file is replaced, the link stays.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let old = target.metadata().ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let file = File::options().write(true).open(&target)?;
        return Ok((file, State::InPlace, None));
    }
    let dir = directory(&target);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = if old.is_some() { PRIVATE } else { MODE };
    match rustix::fs::open(&dir, flags, Mode::from_raw_mode(mode)) {
        Ok(fd) => Ok((fd.into(), State::Nameless(target), old)),
        // A file system that has no such files, as NFS: a signal leaves this one.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let (file, temporary) = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(Permissions::from_mode(mode))
                .tempfile_in(dir)?
                .into_parts();
            Ok((file, State::Named(temporary, target), old))
        }
        Err(error) => Err(error.into()),
    }
}

/// In which `target` is.
#[must_use]
pub fn directory(target: &Path) -> PathBuf {
    match target.parent() {
        Some(dir) if dir != Path::new("") => dir.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Gives `file` a name next to `target`, then that of `target`: linkat(2) alone
/// replaces nothing.
fn replace(file: &File, target: &Path) -> Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| {
        rustix::fs::linkat(CWD, &source, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(Into::into)
    };
    let named: NamedTempFile<()> =
        tempfile::Builder::new().prefix(PREFIX).make_in(directory(target), link)?;
    named.persist(target)?;
    Ok(())
}

/// The signals that end a program.
fn ending_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect()
}

/// Runs `body` with the signals that end a program held back, so that none of
/// them can leave its temporary file behind.
pub fn without_signals<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = ending_signals().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let result = body();
    before.thread_set_mask()?;
    result
}

/// Ends a long `body` of [`without_signals`] early, once one of them is held back.
///
/// # Errors
/// "interrupted".
pub fn check_signals() -> Result<()> {
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&ending_signals(), flags).context("signalfd")?;
    // It is not read: the signal is for what comes after `body`.
    let mut polled = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    ensure!(poll(&mut polled, PollTimeout::ZERO).context("poll")? == 0, "interrupted");
    Ok(())
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
    fn what_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::create(&dir.path().join("out")).unwrap();
        output.file.write_all(b"x").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn permissions_of_what_is_replaced_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        write(&path, b"one").unwrap();
        let new = mode(&path);
        assert_eq!(new & !0o666, 0, "{new:o}");
        for kept in [0o600, 0o640, 0o755, 0o400, 0o4755] {
            std::fs::set_permissions(&path, Permissions::from_mode(kept)).unwrap();
            let mut output = Output::create(&path).unwrap();
            let between = output.file.metadata().unwrap().mode() & 0o077;
            assert_eq!(between, 0, "{kept:o}");
            output.file.write_all(b"two").unwrap();
            output.commit().unwrap();
            assert_eq!(mode(&path), kept & 0o777, "{kept:o}");
        }
        // Of another owner, where we may give files away.
        if std::os::unix::fs::chown(&path, Some(1), Some(2)).is_ok() {
            write(&path, b"three").unwrap();
            let metadata = path.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1, 2));
        }
    }

    #[test]
    fn a_device_is_written_to_not_replaced() {
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
