//! The lines of one stream, with the times at which they arrived if the log has time stamps.

use anyhow::Result;
use files::time::TIMESTAMP_MICROS_LENGTH;
use machine::session::log_files::LogStream;

use super::chain::LogChain;

/// Maximum number of bytes of a piece. A longer line comes in pieces.
const PIECE_MAX: usize = 64 << 10;

/// Reader of the lines of one stream.
#[derive(Debug)]
pub(super) struct LogLines {
    chain: LogChain,
    /// Bytes that were read; the first `done` of them were taken.
    buffer: Vec<u8>,
    done: usize,
    /// End of the current piece in the buffer.
    end: usize,
    is_line_start: bool,
    /// Whether the end of the files was reached since [`LogLines::read_again`].
    is_at_end: bool,
    /// Time stamp of the line to which the current piece belongs, or of an earlier line; empty if
    /// there was none.
    stamp: Vec<u8>,
}

impl LogLines {
    /// A reader of `chain`, which is at the beginning of a line.
    pub(super) fn new(chain: LogChain) -> Self {
        let (buffer, stamp) = (Vec::new(), Vec::new());
        Self { chain, buffer, done: 0, end: 0, is_line_start: true, is_at_end: false, stamp }
    }

    /// The stream.
    pub(super) fn stream(&self) -> LogStream {
        self.chain.stream()
    }

    /// Whether the stream has no file.
    pub(super) fn has_no_file(&self) -> bool {
        self.chain.is_empty()
    }

    /// Opens files that were begun since the last call, as [`LogChain::advance`].
    pub(super) fn advance(&mut self) -> Result<bool> {
        self.chain.advance()
    }

    /// Lets [`Self::fill`] read behind the end that it has found.
    pub(super) fn read_again(&mut self) {
        self.is_at_end = false;
    }

    /// Reads the next piece: a line, or a part of a line that is long or has no end yet. Returns
    /// whether there is one.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn fill(&mut self) -> Result<bool> {
        if self.end <= self.done {
            self.end = self.find_end()?;
        }
        if let Some(stamp) = stamp(self.piece()).filter(|_| self.is_line_start) {
            self.stamp = stamp.to_vec();
        }
        Ok(self.end > self.done)
    }

    /// End of the next piece in the buffer.
    fn find_end(&mut self) -> Result<usize> {
        let mut searched = self.done;
        loop {
            let unread = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = unread.iter().position(|&byte| byte == b'\n') {
                return Ok(searched + at + 1);
            }
            if self.buffer.len() - self.done >= PIECE_MAX {
                return Ok(self.buffer.len());
            }
            self.buffer.drain(..self.done);
            self.done = 0;
            searched = self.buffer.len();
            if self.is_at_end || self.read_more()? == 0 {
                self.is_at_end = true;
                return Ok(searched);
            }
        }
    }

    /// Reads more bytes into the buffer, and returns their number.
    fn read_more(&mut self) -> Result<usize> {
        let length = self.buffer.len();
        self.buffer.resize(length + PIECE_MAX, 0);
        let count = self.chain.read(self.buffer.get_mut(length..).unwrap_or_default());
        self.buffer.truncate(length + *count.as_ref().unwrap_or(&0));
        count
    }

    /// The current piece; empty before the first [`Self::fill`].
    pub(super) fn piece(&self) -> &[u8] {
        self.buffer.get(self.done..self.end).unwrap_or_default()
    }

    /// Time stamp of the current piece. Times compare as their texts do.
    pub(super) fn stamp(&self) -> &[u8] {
        &self.stamp
    }

    /// Goes on to the next piece.
    pub(super) fn take(&mut self) {
        self.is_line_start = self.piece().ends_with(b"\n");
        self.done = self.end;
    }
}

/// The time stamp at the beginning of `line`, if it has one.
fn stamp(line: &[u8]) -> Option<&[u8]> {
    let (stamp, rest) = line.split_at_checked(TIMESTAMP_MICROS_LENGTH)?;
    let has_form =
        stamp.iter().zip(b"0000-00-00T00:00:00.000000Z").all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            form => byte == form,
        });
    (has_form && rest.starts_with(b" ")).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn stamps_are_recognized() {
        let time = "2026-03-01T12:30:00.000123Z";
        for (line, expected) in [
            (format!("{time} x\n"), Some(time)),
            (format!("{time} "), Some(time)),
            (format!("{time}\n"), None),
            (time.to_owned(), None),
            (format!(" {time} x"), None),
            ("2026-03-01T12:30:00Z a long line of something else".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(stamp(line.as_bytes()), expected.map(str::as_bytes), "{line:?}");
        }
    }

    #[test]
    fn pieces_are_lines_or_parts_of_long_ones() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(3 * PIECE_MAX);
        let mut file = std::fs::File::create(dir.path().join("stdout.log")).unwrap();
        write!(file, "a\n\n{long}\nb").unwrap();
        let mut lines = LogLines::new(LogChain::open(dir.path(), LogStream::Output).unwrap());
        let mut pieces = Vec::new();
        while lines.fill().unwrap() {
            // A second call changes nothing.
            assert!(lines.fill().unwrap());
            assert!(lines.piece().len() <= 2 * PIECE_MAX);
            pieces.push(lines.piece().to_vec());
            lines.take();
        }
        assert_eq!(pieces[..2], [b"a\n".to_vec(), b"\n".to_vec()]);
        assert_eq!(pieces.last().unwrap(), b"b");
        assert_eq!(pieces.concat(), format!("a\n\n{long}\nb").into_bytes());
        // The line goes on.
        writeln!(file, "c").unwrap();
        assert!(!lines.fill().unwrap());
        lines.read_again();
        assert!(lines.fill().unwrap());
        assert_eq!((lines.piece(), lines.is_line_start), (&b"c\n"[..], false));
    }
}
