//! The guest's console in command mode: kept for the case that something fails.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};

/// Bytes that are kept.
const KEPT: usize = 64 << 10;

/// Lines that a failure shows.
const TAIL: usize = 25;

/// The end of the console's text, as it comes.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    open: bool,
    kept: VecDeque<u8>,
    /// Whether all of it is shown on standard error.
    shown: bool,
    log: Option<File>,
}

impl Console {
    /// A console, and the end of it that QEMU is to be handed. It is also shown
    /// on standard error, and written to `log`, as wanted.
    pub fn pair(shown: bool, log: Option<File>) -> Result<(Self, OwnedFd)> {
        let (stream, theirs) = UnixStream::pair().context("make a socket for the console")?;
        stream.set_nonblocking(true)?;
        let kept = VecDeque::new();
        Ok((Self { stream, open: true, kept, shown, log }, theirs.into()))
    }

    /// What to wait for; `None` when there is nothing more to come.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.stream.as_fd())
    }

    /// Takes in what has arrived.
    pub fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        while self.open {
            match self.stream.read(&mut chunk) {
                Ok(count @ 1..) => self.take(&chunk[..count])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => self.open = false,
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if self.shown {
            // Without anybody to see it nothing is lost.
            let _ = std::io::stderr().write_all(printable(bytes).as_bytes());
        }
        if let Some(log) = &mut self.log {
            log.write_all(bytes).context("write the console's log")?;
        }
        self.kept.extend(bytes);
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        Ok(())
    }

    /// The last lines, to be shown to a person who has not seen them; empty
    /// where there is nothing, or all of it was shown.
    #[must_use]
    pub fn tail(&self) -> String {
        if self.shown {
            return String::new();
        }
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = printable(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL)..]
            .iter()
            .flat_map(|line| ["  ", line, "\n"])
            .collect()
    }
}

/// Without what would steer a terminal: a guest's text is not trusted.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_cannot_steer_a_terminal() {
        let (mut console, theirs) = Console::pair(false, None).unwrap();
        let mut theirs = UnixStream::from(theirs);
        for number in 0..9000 {
            writeln!(theirs, "line {number}\r").unwrap();
            console.read().unwrap();
        }
        theirs.write_all(b"\n\x1b[31mr\xc3\xa9d\xc2\x9b2J\n").unwrap();
        drop(theirs);
        console.read().unwrap();
        let tail = console.tail();
        assert_eq!(tail.lines().count(), TAIL);
        assert!(tail.ends_with("  line 8999\n  [31mréd2J\n"), "{tail:?}");
        assert!(console.fd().is_none() && console.kept.len() <= KEPT);
    }

    #[test]
    fn a_log_has_every_byte() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut console, theirs) = Console::pair(false, Some(file.reopen().unwrap())).unwrap();
        UnixStream::from(theirs).write_all(b"\x1b[31mred\r\n").unwrap();
        console.read().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"\x1b[31mred\r\n");
    }
}
