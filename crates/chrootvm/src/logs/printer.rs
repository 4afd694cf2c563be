//! The lines of all streams, each to its own stream of this program.
//!
//! Lines with time stamps are printed in the order of these. Without them, all lines of standard
//! output that are there come first, then those of standard error.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use files::tell;
use machine::process::wait;
use machine::session::log_files::LogStream;

use super::lines::LogLines;

/// Number of bytes that are collected before they are written.
const BUFFER: usize = 64 << 10;

/// Printer of several streams.
#[derive(Debug)]
pub(super) struct Printer {
    sources: Vec<LogLines>,
    /// Bytes that are not written yet; all of them are of one stream.
    unwritten: Vec<u8>,
}

impl Printer {
    /// A printer of `sources`.
    pub(super) fn new(sources: Vec<LogLines>) -> Self {
        Self { sources, unwritten: Vec::new() }
    }

    /// Prints everything that is in the files now.
    ///
    /// # Errors
    /// A file cannot be read, or the result cannot be written.
    pub(super) fn print_available(&mut self) -> Result<()> {
        loop {
            self.print_open_files()?;
            let mut has_more = false;
            for source in &mut self.sources {
                has_more |= source.advance()?;
            }
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Whether nobody reads one of the streams any more.
    pub(super) fn is_reader_gone(&self) -> bool {
        let mut streams = self.sources.iter().map(LogLines::stream);
        streams.any(|stream| with_own(stream, wait::is_reader_gone))
    }

    fn print_open_files(&mut self) -> Result<()> {
        self.sources.iter_mut().for_each(LogLines::read_again);
        let mut last = None;
        loop {
            let next = next(&mut self.sources)?;
            if next != last || self.unwritten.len() >= BUFFER {
                self.write(last)?;
            }
            let Some(source) = next.and_then(|at| self.sources.get_mut(at)) else { return Ok(()) };
            self.unwritten.extend_from_slice(source.piece());
            source.take();
            last = next;
        }
    }

    /// Writes what was collected of the source with the number `at`.
    fn write(&mut self, at: Option<usize>) -> Result<()> {
        let Some(source) = at.and_then(|at| self.sources.get(at)) else { return Ok(()) };
        let written = with_own(source.stream(), |fd| tell::write_all(fd, &self.unwritten));
        self.unwritten.clear();
        written.map_err(io::Error::from).context("write the log")
    }
}

/// Number of the source with the earliest piece, the first one of several; `None` if there are no
/// more pieces now.
fn next(sources: &mut [LogLines]) -> Result<Option<usize>> {
    let mut first: Option<(usize, &[u8])> = None;
    for (at, source) in sources.iter_mut().enumerate() {
        if source.fill()? && first.is_none_or(|(_, stamp)| source.stamp() < stamp) {
            first = Some((at, source.stamp()));
        }
    }
    Ok(first.map(|(at, _)| at))
}

/// Calls `body` with the descriptor of this program's stream.
fn with_own<T>(stream: LogStream, body: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    match stream {
        LogStream::Output => body(io::stdout().as_fd()),
        LogStream::Error => body(io::stderr().as_fd()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::LogChain;
    use super::*;
    use files::named::Named;

    /// The pieces of two files in their order, with the number of the stream before each.
    fn merged(output: &str, error: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = Vec::new();
        for (stream, text) in LogStream::all().zip([output, error]) {
            std::fs::write(dir.path().join(stream.file_name(0)), text).unwrap();
            sources.push(LogLines::new(LogChain::open(dir.path(), stream).unwrap()));
        }
        let mut pieces = Vec::new();
        while let Some(at) = next(&mut sources).unwrap() {
            let text = String::from_utf8_lossy(sources[at].piece()).into_owned();
            pieces.push(format!("{}{}", at + 1, text.trim_end().rsplit(' ').next().unwrap()));
            sources[at].take();
        }
        pieces
    }

    #[test]
    fn lines_are_ordered_by_their_stamps() {
        let line = |second: u32, word: &str| format!("2026-03-01T12:30:{second:02}.000000Z {word}");
        for (name, output, error, expected) in [
            ("no stamps", "a\nb\n".to_owned(), "c\n".to_owned(), &["1a", "1b", "2c"][..]),
            (
                "stamps",
                [line(1, "a\n"), line(3, "b\n")].concat(),
                [line(2, "c\n"), line(3, "d\n"), line(4, "e\n")].concat(),
                &["1a", "2c", "1b", "2d", "2e"],
            ),
            (
                "a line that was cut goes on with its beginning",
                [&line(2, "a\n"), "b\n", &line(4, "c\n")].concat(),
                [line(1, "d\n"), line(3, "e\n")].concat(),
                &["2d", "1a", "1b", "2e", "1c"],
            ),
            ("one stream", String::new(), line(1, "a\n"), &["2a"]),
            ("nothing", String::new(), String::new(), &[]),
        ] {
            assert_eq!(merged(&output, &error), expected, "{name}");
        }
    }
}
