//! Objects of the cache: files that appear whole or not at all, and that several processes share.
//!
//! Interfaces: flock(2), rename(2). A lock belongs to the open file, so it ends with its process,
//! however that ends.
//!
//! - An object is written to `NAME.part` under an exclusive lock and then renamed to `NAME`. Who
//!   wants the same object meanwhile waits for the lock and then uses the object.
//! - A process that uses an object holds a shared lock on it. An object is removed only under an
//!   exclusive lock, so it is never removed while somebody uses it.
//! - Locks are taken on files that others may rename or remove: after locking, the name must
//!   still lead to the locked file, or the look-up starts again.

use std::fs::{File, FileTimes, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

/// Permissions of the files: images may contain secrets.
const FILE_MODE: u32 = 0o600;
/// Ending of the name of an object that is not complete.
pub(super) const PART: &str = ".part";

/// A complete object, which nobody removes as long as this value lives.
#[derive(Clone, Debug)]
pub struct Held {
    file: Arc<File>,
    path: Option<PathBuf>,
}

impl Held {
    /// The object. Its lock is held as long as any descriptor of it is open, also one that a
    /// child process has.
    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The path of the object; `None` if it is an unlinked file, because nothing is kept.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// What to do while another process makes an object.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// Called once, before waiting.
    pub begin: &'a dyn Fn(),
    /// Becomes true when nobody wants the object any more; then waiting ends with an error.
    pub is_over: Option<&'a AtomicBool>,
}

impl Wait<'_> {
    /// Waits without a word until the other process is done.
    pub const SILENT: Wait<'static> = Wait { begin: &|| (), is_over: None };

    /// Time between two looks at a lock.
    const INTERVAL: Duration = Duration::from_millis(50);

    /// Waits until the process that makes the object with the incomplete `file` is done.
    fn wait(self, file: &File) -> Result<()> {
        loop {
            // A shared lock, because whoever completes the object goes on to hold one.
            match flock(file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error).context("lock"),
            }
            let is_over = self.is_over.is_some_and(|flag| flag.load(Ordering::Relaxed));
            ensure!(!is_over, "nobody waits any more for the process that makes it");
            std::thread::sleep(Self::INTERVAL);
        }
    }
}

/// An object that this process writes; nobody else does as long as this value lives.
#[derive(Debug)]
pub struct Part {
    file: Arc<File>,
    /// Names of the incomplete and of the complete object; `None` for an unlinked file.
    names: Option<(PathBuf, PathBuf)>,
}

impl Part {
    /// A file without a name, which is gone when it is closed.
    pub(super) fn unlinked() -> Result<Self> {
        let place = || format!("make a file in {} ($TMPDIR)", std::env::temp_dir().display());
        let file = tempfile::tempfile().with_context(place)?;
        Ok(Self { file: Arc::new(file), names: None })
    }

    /// The file to write to. It may have bytes from an interrupted run.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Removes all bytes.
    ///
    /// # Errors
    /// Errors of ftruncate(2).
    pub fn clear(&self) -> Result<()> {
        self.file.set_len(0).context("empty a file of the cache")
    }

    /// Makes the object complete.
    ///
    /// # Errors
    /// Errors of rename(2).
    pub(crate) fn commit(self) -> Result<Held> {
        let Self { file, names } = self;
        let Some((part, path)) = names else { return Ok(Held { file, path: None }) };
        std::fs::rename(&part, &path).with_context(|| format!("rename {}", part.display()))?;
        // Between the two locks, the object may be removed; the open file stays readable.
        lock(&file, FlockOperation::LockShared)?;
        Ok(Held { file, path: Some(path) })
    }

    /// Removes the incomplete object.
    pub(crate) fn discard(self) {
        if let Some((part, _)) = &self.names {
            // The next run empties the file if it is still there.
            let _ = std::fs::remove_file(part);
        }
    }
}

/// What [`claim`] found.
#[derive(Debug)]
pub(super) enum Claim {
    /// The object is complete.
    Complete(Held),
    /// The object is missing, and this process makes it.
    Missing(Part),
}

/// Takes hold of the object `path` if `is_valid` accepts it; otherwise removes it, and begins a
/// new one. `wait` says what happens while another process makes the object.
pub(super) fn claim(
    path: &Path,
    is_valid: &dyn Fn(&File) -> bool,
    wait: Wait<'_>,
) -> Result<Claim> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!("{name}{PART}"));
    let context = || format!("open {}", part.display());
    let mut is_waiting = false;
    loop {
        if let Some(held) = hold_valid(path, is_valid)? {
            return Ok(Claim::Complete(held));
        }
        let file = options().write(true).create(true).open(&part).with_context(context)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                if !std::mem::replace(&mut is_waiting, true) {
                    (wait.begin)();
                }
                wait.wait(&file).with_context(context)?;
                continue;
            }
            Err(error) => return Err(error).context("lock").with_context(context),
        }
        if !is_at(&file, &part).with_context(context)? {
            continue;
        }
        let names = Some((part.clone(), path.to_path_buf()));
        let claimed = Part { file: Arc::new(file), names };
        // Another process may have completed the object before the lock was taken.
        match hold_valid(path, is_valid)? {
            Some(held) => {
                claimed.discard();
                return Ok(Claim::Complete(held));
            }
            None => return Ok(Claim::Missing(claimed)),
        }
    }
}

fn hold_valid(path: &Path, is_valid: &dyn Fn(&File) -> bool) -> Result<Option<Held>> {
    let Some(held) = hold(path)? else { return Ok(None) };
    if is_valid(held.file()) {
        return Ok(Some(held));
    }
    if remove_held(&held)? {
        log::warn!("{} is damaged and is made again", path.display());
    }
    Ok(None)
}

/// Removes a damaged object. Returns whether it was removed; it is not if another process has
/// made it again already.
pub(super) fn remove_held(held: &Held) -> Result<bool> {
    let Some(path) = held.path() else { return Ok(false) };
    let is_same = is_at(held.file(), path)?;
    if is_same {
        remove_name(path)?;
    }
    Ok(is_same)
}

/// Takes hold of the object `path` and notes that it was used; `None` if it is missing.
pub(super) fn hold(path: &Path) -> Result<Option<Held>> {
    let held = hold_unused(path)?;
    if let Some(held) = &held {
        // The time of use only orders objects for removal.
        let _ = held.file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
    }
    Ok(held)
}

/// Takes hold of the object `path`, and does not count that as a use.
pub(super) fn hold_unused(path: &Path) -> Result<Option<Held>> {
    let context = || format!("open {}", path.display());
    loop {
        let file = match options().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(context),
        };
        lock(&file, FlockOperation::LockShared).with_context(context)?;
        if is_at(&file, path).with_context(context)? {
            return Ok(Some(Held { file: Arc::new(file), path: Some(path.to_path_buf()) }));
        }
    }
}

/// Removes the object or incomplete object `path` and all `companions`. Returns whether it was
/// removed; it is not if a process uses it.
pub(super) fn remove(path: &Path, companions: &[PathBuf]) -> Result<bool> {
    let file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    let is_free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if !is_free || !is_at(&file, path)? {
        return Ok(false);
    }
    for companion in companions {
        remove_name(companion)?;
    }
    remove_name(path)?;
    Ok(true)
}

/// Whether a process uses the object `path`, or makes it.
pub(super) fn is_in_use(path: &Path) -> bool {
    let Ok(file) = options().open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Removes a file; one that is missing is not an error.
pub(super) fn remove_name(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Options for a file of the cache. What is not a regular file has no business there: a link is
/// an error, and a FIFO does not block.
pub(super) fn options() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = File::options();
    options.read(true).mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
    options
}

/// Takes a lock, and waits for it.
fn lock(file: &File, how: FlockOperation) -> Result<()> {
    loop {
        match flock(file, how) {
            Err(Errno::INTR) => {}
            result => return result.context("lock"),
        }
    }
}

/// Whether the name `path` leads to `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match path.symlink_metadata() {
        Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The regular files of a directory; none if the directory is missing.
pub(super) fn files_in(dir: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let context = || format!("list {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(context)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(context)?;
        // Another process may remove the file meanwhile.
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => files.push((entry.path(), metadata)),
            _ => {}
        }
    }
    Ok(files)
}
