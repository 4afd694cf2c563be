//! Where the output of steps goes while they run.

use std::io::{self, Write};

/// Standard error for the output of a step; each line begins with `prefix`. Nothing is shown if only
/// errors are wanted.
pub(super) fn live(prefix: &str) -> Box<dyn Write> {
    match log::log_enabled!(log::Level::Info) {
        true if prefix.is_empty() => Box::new(io::stderr()),
        true => Box::new(Lines { out: io::stderr(), prefix: prefix.to_owned(), line: Vec::new() }),
        false => Box::new(io::sink()),
    }
}

/// Longest line that is kept until its end comes, in bytes.
const LINE_MAX: usize = 4096;

/// Writer of whole lines, so that those of two writers do not mix.
struct Lines<W: Write> {
    out: W,
    prefix: String,
    /// The line that has no end yet.
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn end_line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.out.write_all(&[self.prefix.as_bytes(), &line, b"\n"].concat())
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line()?,
                _ => self.line.push(byte),
            }
            if self.line.len() >= LINE_MAX {
                self.end_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The last line may have no end.
impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            let _ = self.end_line(); // nobody may read it any more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_prefix() {
        let mut out = Vec::new();
        let mut lines = Lines { out: &mut out, prefix: "a: ".to_owned(), line: Vec::new() };
        lines.write_all(b"one\ntw").unwrap();
        lines.write_all(b"o\n\nthree").unwrap();
        drop(lines);
        assert_eq!(out, b"a: one\na: two\na: \na: three\n");
        let mut lines = Lines { out: Vec::new(), prefix: String::new(), line: Vec::new() };
        lines.write_all(&vec![b'x'; 10 * LINE_MAX]).unwrap();
        assert!(lines.line.len() < LINE_MAX);
    }
}
