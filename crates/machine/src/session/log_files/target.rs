//! The log files of one stream, as the destination of that stream.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use files::tell;
use files::time::timestamp_micros;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::steps::{self, LinePosition, Step};
use super::{KEEP_MAX, LogDir, LogSettings, LogStream, Timestamps};
use crate::session::streams::{OutputTarget, close};

/// Error for a log file that is a FIFO, a device or the like.
pub(super) const NOT_REGULAR: Errno = Errno::EINVAL;

/// Permissions of a new log file.
const FILE_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// The log files of one stream.
#[derive(Debug)]
pub(super) struct LogTarget {
    dir: LogDir,
    stream: LogStream,
    file: File,
    /// Size of the current file in bytes.
    size: u64,
    position: LinePosition,
    limit: u64,
    keep: u32,
    timestamps: Timestamps,
}

impl LogTarget {
    /// Opens or makes the current file of `stream`. If its last line has no end, it gets one.
    pub(super) fn open(
        dir: LogDir,
        stream: LogStream,
        settings: &LogSettings,
    ) -> Result<Self, Errno> {
        let file = open_file(&dir, stream)?;
        let size = file.metadata().map_err(|error| errno_of(&error))?.len();
        let LogSettings { size: limit, keep, timestamps, .. } = *settings;
        let position = LinePosition::Start;
        let mut target = Self { dir, stream, file, size, position, limit, keep, timestamps };
        let mut last = [b'\n'];
        if size > 0 {
            target.file.read_exact_at(&mut last, size - 1).map_err(|error| errno_of(&error))?;
        }
        if last != [b'\n'] {
            target.append(b"\n")?;
        }
        target.remove_beyond_keep();
        Ok(target)
    }

    /// Appends all of `bytes` to the current file.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        tell::write_all(self.file.as_fd(), bytes)?;
        self.size += bytes.len() as u64;
        self.position = self.position.after(bytes);
        Ok(())
    }

    /// Renames the current file, and begins a new one.
    fn rotate(&mut self) -> Result<(), Errno> {
        for number in (0..self.keep).rev() {
            let [from, to] = [number, number + 1].map(|number| self.stream.file_name(number));
            match renameat(&self.dir, from.as_str(), &self.dir, to.as_str()) {
                // Fewer files than that were rotated, or somebody has removed one.
                Err(Errno::ENOENT) => {}
                result => result?,
            }
        }
        if self.keep == 0 {
            self.remove(0)?;
        }
        let old = std::mem::replace(&mut self.file, open_file(&self.dir, self.stream)?);
        self.size = self.file.metadata().map_err(|error| errno_of(&error))?.len();
        close(old.into())
    }

    /// Removes files that an earlier machine has kept, which kept more of them.
    fn remove_beyond_keep(&self) {
        for number in self.keep.saturating_add(1)..=KEEP_MAX {
            let _ = self.remove(number); // a file that stays only takes space
        }
    }

    /// Removes the file with this number, if there is one.
    fn remove(&self, number: u32) -> Result<(), Errno> {
        let name = self.stream.file_name(number);
        match unlinkat(&self.dir, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            result => result,
        }
    }
}

impl OutputTarget for LogTarget {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let stamp = match self.timestamps {
            Timestamps::Omitted => None,
            Timestamps::Written => Some(now()),
        };
        let text = steps::stamped(bytes, self.position, stamp.as_deref());
        let mut rest = &*text;
        while !rest.is_empty() {
            match steps::next(rest, self.size, self.position, self.limit) {
                Step::Rotate => self.rotate()?,
                Step::Append(count) => {
                    let (head, tail) = rest.split_at(count.min(rest.len()));
                    self.append(head)?;
                    rest = tail;
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Errno> {
        // A copy is enough, as for `OwnStream`. If there is no copy, no error can be found.
        self.file.try_clone().map_or(Ok(()), |copy| close(copy.into()))
    }
}

/// The time of the host.
fn now() -> String {
    // A clock before 1970 counts as 1970.
    timestamp_micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Opens or makes the current file of `stream` in `dir`.
fn open_file(dir: &LogDir, stream: LogStream) -> Result<File, Errno> {
    // Opening a FIFO or a device must neither wait nor have an effect. For a regular file,
    // O_NONBLOCK means nothing.
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
    let guards = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(dir, stream.file_name(0).as_str(), flags | guards, FILE_MODE)?;
    let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFREG { Ok(file.into()) } else { Err(NOT_REGULAR) }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target whose current file is a full disk.
    fn on_a_full_disk(settings: &LogSettings) -> LogTarget {
        let dir = super::super::open_dir(&settings.dir).unwrap();
        let dir = LogDir(super::super::lock(dir, &settings.dir).unwrap().into());
        let mut target = LogTarget::open(dir, LogStream::Output, settings).unwrap();
        target.file = File::options().write(true).open("/dev/full").unwrap();
        target
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut target = on_a_full_disk(&LogSettings::new(dir.path().into()));
        assert_eq!(target.write(b"lost\n"), Err(Errno::ENOSPC));
        assert_eq!((target.size, target.close()), (0, Ok(())));
    }

    #[test]
    fn an_error_of_rotating_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let settings = LogSettings { size: 4, keep: 1, ..LogSettings::new(dir.path().into()) };
        let files = settings.open().unwrap();
        // A directory cannot be replaced by a file.
        std::fs::create_dir(dir.path().join("stdout.log.1")).unwrap();
        let [mut output, _] = files.into_targets();
        assert_eq!(output.write(b"one\n"), Ok(()));
        assert_eq!(output.write(b"two\n"), Err(Errno::EISDIR));
        assert_eq!(std::fs::read(dir.path().join("stdout.log")).unwrap(), b"one\n");
    }
}
