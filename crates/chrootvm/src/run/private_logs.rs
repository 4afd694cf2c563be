//! Log files of a machine in the background without `--logs`: they are in a private directory, which
//! is removed when the machine has ended.
//!
//! A chrootvm that is killed cannot remove its directory. The lock of such a directory is free, and
//! the next machine in the background removes it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use files::tell;
use machine::session::log_files::{LogFiles, LogSettings, LogStream, is_written};
use nix::unistd::geteuid;
use tempfile::TempDir;

/// Beginning of the names of such directories; six random characters follow.
const PREFIX: &str = "chrootvm-logs-";

/// Size of a log file in bytes. The directory may be in memory.
const SIZE: u64 = 1 << 20;

/// Age at which a directory without a lock counts as left behind. A directory is locked a moment
/// after it was made.
const STALE_AGE: Duration = Duration::from_secs(60);

/// Number of bytes of each stream that are shown if the machine was not ready.
const SHOWN: u64 = 2 << 10;

/// A private directory of log files. Dropping this value removes it.
#[derive(Debug)]
pub(super) struct PrivateLogs(TempDir);

impl PrivateLogs {
    /// Makes the directory, and removes those that were left behind. Both values are there.
    ///
    /// # Errors
    /// The directory or a log file cannot be made.
    pub(super) fn make() -> Result<(Option<LogFiles>, Option<Self>)> {
        let base = base(std::env::var_os("XDG_RUNTIME_DIR"));
        remove_stale(&base, SystemTime::now());
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base);
        let dir =
            dir.with_context(|| format!("make a directory for log files in {}", base.display()))?;
        let settings = LogSettings { size: SIZE, ..LogSettings::new(dir.path().to_path_buf()) };
        let files = settings.open()?;
        Ok((Some(files), Some(Self(dir))))
    }

    /// Removes the directory of `logs`. To be called before signals can end this program. If the
    /// machine was not ready before its end, whoever waits sees the end of its output.
    pub(super) fn end(logs: Option<Self>, was_ready: bool) {
        if let Some(logs) = logs.filter(|_| !was_ready) {
            logs.show();
        }
    }

    fn show(&self) {
        for stream in [LogStream::Output, LogStream::Error] {
            let text = tail(&self.0.path().join(stream.file_name(0)), SHOWN).unwrap_or_default();
            let lines: String = text.lines().flat_map(|line| ["  ", line, "\n"]).collect();
            if !lines.is_empty() {
                let name = stream.file_name(0);
                tell::lines(format_args!("the last lines of {name}:\n{lines}"));
            }
        }
    }
}

/// The directory in which the private ones are made. `runtime` is that of the user's session.
fn base(runtime: Option<OsString>) -> PathBuf {
    let runtime = runtime.map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir());
    runtime.unwrap_or_else(std::env::temp_dir)
}

/// Removes the directories in `base` that chrootvms of this user have left behind. What cannot be
/// removed stays.
fn remove_stale(base: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // The metadata of the entry itself: a link is no directory.
        let Ok(metadata) = entry.metadata() else { continue };
        let is_ours = metadata.is_dir() && metadata.uid() == geteuid().as_raw();
        let age = metadata.modified().ok().and_then(|made| now.duration_since(made).ok());
        let is_old = age.is_some_and(|age| age >= STALE_AGE);
        if is_ours
            && is_old
            && !is_written(&entry.path())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            log::debug!("remove {}: {error}", entry.path().display());
        }
    }
}

/// The last whole lines of a file, at most `size` bytes.
fn tail(path: &Path, size: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(size);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    let text = tell::printable(&bytes);
    Ok(match text.split_once('\n') {
        Some((_, whole)) if start > 0 => whole.to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_session_is_preferred() {
        for (runtime, expected) in [
            (Some("/"), Path::new("/")),
            (Some(""), &std::env::temp_dir()),
            (Some("run"), &std::env::temp_dir()),
            (Some("/gone/x"), &std::env::temp_dir()),
            (None, &std::env::temp_dir()),
        ] {
            assert_eq!(base(runtime.map(OsString::from)), expected, "{runtime:?}");
        }
    }

    #[test]
    fn only_directories_that_nobody_uses_are_removed() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        let names = ["chrootvm-logs-left", "chrootvm-logs-used", "chrootvm-log-other"];
        for name in names {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("stdout.log"), "x").unwrap();
        }
        fs::write(path("chrootvm-logs-file"), "x").unwrap();
        std::os::unix::fs::symlink(path(names[2]), path("chrootvm-logs-link")).unwrap();
        let files = LogSettings::new(path(names[1])).open().unwrap();
        // All of them have just been made.
        remove_stale(base.path(), SystemTime::now());
        assert!(names.iter().all(|name| path(name).exists()));
        remove_stale(base.path(), SystemTime::now() + 2 * STALE_AGE);
        assert_eq!(names.map(|name| path(name).exists()), [false, true, true]);
        assert!(path("chrootvm-logs-file").exists());
        assert!(path("chrootvm-logs-link").is_symlink());
        drop(files);
        remove_stale(base.path(), SystemTime::now() + 2 * STALE_AGE);
        assert!(!path(names[1]).exists());
    }

    #[test]
    fn the_tail_has_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        for (text, size, expected) in [
            ("", 4, ""),
            ("a\nb\n", 4, "a\nb\n"),
            ("a\nb\n", 3, "b\n"),
            ("abcdef", 3, "def"),
            ("a\nb\x1b", 9, "a\nb"),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(tail(&file, size).unwrap(), expected, "{text:?}");
        }
    }
}
