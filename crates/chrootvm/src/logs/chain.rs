//! The log files of one stream as one text, the oldest file first.
//!
//! A machine may rotate the files at any moment. Files are opened from the newest to the oldest,
//! because a file only ever becomes older: it may then be found twice, but never be missed. A file
//! that was rotated does not change any more, so it is read to its end before the next one.
//!
//! Interfaces: stat(2), which tells files apart by device and inode. The inode of an open file is not
//! used again.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use machine::session::log_files::{KEEP_MAX, LogStream};
use nix::fcntl::OFlag;

/// Number of bytes that are read at once to find the last lines.
const BLOCK: u64 = 64 << 10;

/// Device and inode of a file.
type FileId = (u64, u64);

/// An open log file.
#[derive(Debug)]
struct LogFile {
    file: File,
    id: FileId,
    path: PathBuf,
}

/// The files of one stream that are not read to their end, the oldest first.
#[derive(Debug)]
pub(super) struct LogChain {
    dir: PathBuf,
    stream: LogStream,
    files: VecDeque<LogFile>,
}

impl LogChain {
    /// Opens all files of `stream` in `dir`; there may be none.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(super) fn open(dir: &Path, stream: LogStream) -> Result<Self> {
        Ok(Self { dir: dir.into(), stream, files: open_all(dir, stream)? })
    }

    /// The stream.
    pub(super) fn stream(&self) -> LogStream {
        self.stream
    }

    /// Whether there is no file of this stream.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Skips all but the last `count` lines. A last line without an end counts.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn skip_to_last(&mut self, count: u64) -> Result<()> {
        let (at, offset) = start_of_last(&self.files, count)?;
        self.files.drain(..at);
        let Some(first) = self.files.front_mut() else { return Ok(()) };
        let position = first.file.seek(SeekFrom::Start(offset));
        position.map(drop).with_context(|| format!("read {}", first.path.display()))
    }

    /// Reads the next bytes; 0 if there are no more now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while let Some(first) = self.files.front_mut() {
            let count = first.file.read(buffer);
            let count = count.with_context(|| format!("read {}", first.path.display()))?;
            if count > 0 || self.files.len() == 1 {
                return Ok(count);
            }
            self.files.pop_front();
        }
        Ok(0)
    }

    /// Opens the files that were begun since the last call. Returns whether there are any.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(super) fn advance(&mut self) -> Result<bool> {
        let newest = self.files.back().map(|file| file.id);
        let current = self.dir.join(self.stream.file_name(0)).metadata();
        if current.is_ok_and(|current| Some(id(&current)) == newest) {
            return Ok(false);
        }
        let mut all = open_all(&self.dir, self.stream)?;
        match all.iter().position(|file| Some(file.id) == newest) {
            Some(at) => drop(all.drain(..=at)),
            None if newest.is_none() || all.is_empty() => {}
            None => log::warn!(
                "{} in {} was rotated faster than it could be read, so output may be missing",
                self.stream.file_name(0),
                self.dir.display()
            ),
        }
        let is_new = !all.is_empty();
        self.files.append(&mut all);
        Ok(is_new)
    }
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// Opens all files of `stream` in `dir`, the oldest first.
fn open_all(dir: &Path, stream: LogStream) -> Result<VecDeque<LogFile>> {
    let mut files = VecDeque::<LogFile>::new();
    for number in 0..=KEEP_MAX {
        let path = dir.join(stream.file_name(number));
        // Opening a FIFO or a device must neither wait nor have an effect.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match File::options().read(true).custom_flags(flags.bits()).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.with_context(|| format!("open log file {}", path.display()))?,
        };
        let metadata = file.metadata().with_context(|| format!("read {}", path.display()))?;
        ensure!(metadata.is_file(), "log file {} is no regular file", path.display());
        let id = id(&metadata);
        if files.iter().all(|known| known.id != id) {
            files.push_front(LogFile { file, id, path });
        }
    }
    Ok(files)
}

/// Where the last `count` lines of `files` begin: the number of the file, and the offset in it.
fn start_of_last(files: &VecDeque<LogFile>, count: u64) -> Result<(usize, u64)> {
    let mut missing = count;
    // The end of the last line begins no line.
    let mut is_last_byte = true;
    for (at, LogFile { file, path, .. }) in files.iter().enumerate().rev() {
        let context = || format!("read {}", path.display());
        let mut end = file.metadata().with_context(context)?.len();
        if missing == 0 {
            return Ok((at, end));
        }
        while end > 0 {
            let start = end.saturating_sub(BLOCK);
            let mut block = vec![0; usize::try_from(end - start)?];
            file.read_exact_at(&mut block, start).with_context(context)?;
            for (index, &byte) in block.iter().enumerate().rev() {
                if byte == b'\n' && !is_last_byte {
                    missing -= 1;
                    if missing == 0 {
                        return Ok((at, start + index as u64 + 1));
                    }
                }
                is_last_byte = false;
            }
            end = start;
        }
    }
    Ok((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::session::log_files::LogSettings;
    use machine::session::streams::OutputTarget;

    /// Everything that `chain` has now.
    fn read(chain: &mut LogChain) -> String {
        let (mut text, mut buffer) = (Vec::new(), [0; 5]);
        loop {
            match chain.read(&mut buffer).unwrap() {
                0 if !chain.advance().unwrap() => return String::from_utf8(text).unwrap(),
                count => text.extend(&buffer[..count]),
            }
        }
    }

    #[test]
    fn the_last_lines_may_be_in_several_files() {
        let long = format!("{}\nend\n", "x".repeat(3 * usize::try_from(BLOCK).unwrap()));
        for (name, files, count, expected) in [
            ("all", &["a\nb\n", "c\n"][..], 9, "a\nb\nc\n"),
            ("as many as there are", &["a\nb\n", "c\n"], 3, "a\nb\nc\n"),
            ("two files", &["a\nb\n", "c\n"], 2, "b\nc\n"),
            ("one file", &["a\nb\n", "c\n"], 1, "c\n"),
            ("no line", &["a\nb\n", "c\n"], 0, ""),
            ("no end", &["a\nb\n", "c"], 1, "c"),
            ("a line in two files", &["a\nb", "c\nd\n"], 2, "bc\nd\n"),
            ("empty lines", &["a\n\n\n"], 2, "\n\n"),
            ("an empty file", &["a\nb\n", ""], 1, "b\n"),
            ("one empty file", &[""], 1, ""),
            ("no file", &[], 1, ""),
            ("no file and no line", &[], 0, ""),
            ("several blocks", &[&long], 1, "end\n"),
            ("a long line", &["a\n", &long], 2, &long),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for (text, number) in files.iter().rev().zip(0..) {
                std::fs::write(dir.path().join(LogStream::Output.file_name(number)), text).unwrap();
            }
            let mut chain = LogChain::open(dir.path(), LogStream::Output).unwrap();
            assert_eq!(chain.is_empty(), files.is_empty(), "{name}");
            chain.skip_to_last(count).unwrap();
            assert!(read(&mut chain) == expected, "{name}");
        }
    }

    /// The target for standard output of a machine that logs to `dir`.
    fn output(dir: &Path, size: u64, keep: u32) -> Box<dyn OutputTarget> {
        let settings = LogSettings { size, keep, ..LogSettings::new(dir.into()) };
        let [output, _] = settings.open().unwrap().into_targets();
        output
    }

    #[test]
    fn nothing_is_lost_if_files_are_kept_until_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(dir.path(), 8, 4);
        let mut chain = LogChain::open(dir.path(), LogStream::Output).unwrap();
        let mut written = String::new();
        for number in 0..300 {
            let line = format!("{number}\n");
            output.write(line.as_bytes()).unwrap();
            written.push_str(&line);
            // Between two reads, there are up to four rotations.
            if number % 7 == 0 {
                assert_eq!(read(&mut chain), std::mem::take(&mut written), "{number}");
            }
        }
        assert_eq!(read(&mut chain), written);
    }

    #[test]
    fn a_slow_reader_goes_on_with_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(dir.path(), 2, 1);
        let mut chain = LogChain::open(dir.path(), LogStream::Output).unwrap();
        for line in ["1\n", "2\n", "3\n", "4\n"] {
            output.write(line.as_bytes()).unwrap();
        }
        // The first file is open, and the second one is gone.
        assert_eq!(read(&mut chain), "1\n3\n4\n");
    }

    #[test]
    fn files_that_are_removed_are_read_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = output(&dir.path().join("logs"), 100, 1);
        let mut chain = LogChain::open(&dir.path().join("logs"), LogStream::Output).unwrap();
        output.write(b"last\n").unwrap();
        drop(dir);
        assert_eq!(read(&mut chain), "last\n");
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = LogChain::open(dir.path(), LogStream::Output).unwrap_err().to_string();
        assert_eq!(error, format!("log file {} is no regular file", path.display()));
    }
}
