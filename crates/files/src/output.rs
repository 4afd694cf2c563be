//! Output files that appear whole or not at all.
//!
//! Interfaces: rename(2), which replaces a file atomically; `O_TMPFILE` of open(2), which
//! makes a file without a name, so that it disappears if the program ends early. A file that
//! replaces another one takes its owner and permissions; until then, only we can read it.
//! An output that is not a regular file is not replaced; it is opened and written to.

use std::fs::{File, Metadata, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::linkat;
use tempfile::{NamedTempFile, TempPath};

/// Name of standard output in messages.
const STDOUT: &str = "standard output";

/// Prefix of the names of temporary files and directories.
pub const PREFIX: &str = ".virtinitrd-";

/// Permissions of a new file before the umask.
const MODE: u32 = 0o666;
/// Permissions of a file that will replace another one, until it does.
const PRIVATE: u32 = 0o600;
/// Permissions that a new file takes from the file that it replaces: all but the set-id bits,
/// which nobody expects on a new file.
const KEPT: u32 = 0o777;
/// Permission bits of the group.
const GROUP: u32 = 0o070;

/// Writes `bytes` to `path`, or to standard output if `path` is `-`.
///
/// A regular file is replaced in one step; on any error, it stays as it was. A pipe or a
/// device cannot be replaced, so the bytes are written to it.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.file.write_all(bytes).with_context(|| format!("write {}", path.display()))?;
    output.commit()
}

/// An output file while it is written. If [`Output::commit`] is not called, nothing is left
/// of it, however this program ends. Exception: on a file system without `O_TMPFILE`, a
/// signal that ends this program leaves a temporary file.
#[derive(Debug)]
pub struct Output {
    /// The file to write to.
    pub file: File,
    path: PathBuf,
    state: State,
    /// Metadata of the file that will be replaced.
    old: Option<Metadata>,
}

/// The last step for an output file.
#[derive(Debug)]
enum State {
    /// No step: the file is a pipe or a device, which is not replaced.
    InPlace,
    /// Give the file, which has no name yet, this name.
    Nameless(PathBuf),
    /// Rename the file from its temporary name to the second one.
    Named(TempPath, PathBuf),
}

impl Output {
    /// Makes a file that will become `path`. If `path` is `-`, this is standard output. If
    /// `path` is a pipe or a device, opens it.
    ///
    /// # Errors
    /// A directory that does not exist, or that we may not write to.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, state, old) = match is_stdout(path) {
            true => (stdout()?, State::InPlace, None),
            false => create_at(path).with_context(|| format!("write {}", path.display()))?,
        };
        Ok(Self { file, path: path.to_path_buf(), state, old })
    }

    /// The file, if it is one that is not replaced: standard output, a pipe or a device. Nothing is
    /// left of any other file.
    #[must_use]
    pub fn into_unreplaceable(self) -> Option<File> {
        matches!(self.state, State::InPlace).then_some(self.file)
    }

    /// Gives the file its name; it replaces the old file.
    ///
    /// # Errors
    /// Errors of rename(2); the old file stays.
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

/// Standard output as a file. Unlike the standard library's `Stdout`, it reports errors if the
/// descriptor is not open for writing.
///
/// # Errors
/// A descriptor that is not open for writing, for example because a shell closed it (`>&-`).
pub fn stdout() -> Result<File> {
    let file = File::from(std::io::stdout().as_fd().try_clone_to_owned().context(STDOUT)?);
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).context(STDOUT)?);
    ensure!(flags & OFlag::O_ACCMODE != OFlag::O_RDONLY, "{STDOUT} is not open for writing");
    Ok(file)
}

/// Whether `path` means standard output. A shell has opened its file, so it must not be
/// replaced.
#[must_use]
pub fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Metadata of the file that an output to `path` would replace, or would be written to.
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
        // Only root may change the owner; a member of the group may set the group.
        let is_owner_kept = std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()));
        let is_group_kept = is_owner_kept
            .or_else(|_| std::os::unix::fs::fchown(file, None, Some(old.gid())))
            .is_ok();
        mode &= if is_group_kept { KEPT } else { !GROUP };
    }
    Ok(file.set_permissions(Permissions::from_mode(mode))?)
}

/// Makes the file for an output to `path`.
fn create_at(path: &Path) -> Result<(File, State, Option<Metadata>)> {
    // If `path` is a link to a file, replace the file and keep the link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let old = target.metadata().ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let file = File::options().write(true).open(&target)?;
        return Ok((file, State::InPlace, None));
    }
    let dir = directory(&target);
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = if old.is_some() { PRIVATE } else { MODE };
    match open(&dir, flags, Mode::from_bits_retain(mode)) {
        Ok(fd) => Ok((fd.into(), State::Nameless(target), old)),
        // The file system (such as NFS) does not support `O_TMPFILE`. A signal that ends this
        // program leaves the named file.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
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

/// The directory that contains `target`.
#[must_use]
pub fn directory(target: &Path) -> PathBuf {
    match target.parent() {
        Some(dir) if dir != Path::new("") => dir.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Gives `file` a temporary name next to `target`, then renames it to `target`: linkat(2)
/// alone cannot replace a file.
fn replace(file: &File, target: &Path) -> Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| {
        linkat(AT_FDCWD, source.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(Into::into)
    };
    let named: NamedTempFile<()> =
        tempfile::Builder::new().prefix(PREFIX).make_in(directory(target), link)?;
    named.persist(target)?;
    Ok(())
}

/// The signals by which users end a program.
fn ending_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect()
}

/// Runs `body` while the signals by which users end a program are blocked, so that no signal
/// can leave a temporary file.
pub fn without_signals<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = ending_signals().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let result = body();
    before.thread_set_mask()?;
    result
}

/// Fails if a blocked signal is pending. A long `body` of [`without_signals`] calls this to
/// end early.
///
/// # Errors
/// "interrupted", if a signal is pending.
pub fn check_signals() -> Result<()> {
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&ending_signals(), flags).context("signalfd")?;
    // Do not read the signal: it takes effect when it is unblocked after `body`.
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
    fn an_output_without_commit_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::create(&dir.path().join("out")).unwrap();
        output.file.write_all(b"x").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn permissions_of_a_replaced_file_are_kept() {
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
        // If we are root, check the owner, too.
        if std::os::unix::fs::chown(&path, Some(1), Some(2)).is_ok() {
            write(&path, b"three").unwrap();
            let metadata = path.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1, 2));
        }
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        write(Path::new("/dev/null"), b"x").unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
