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

/// How the line begins by which a kernel says why it gives up (`panic()` of
/// `kernel/panic.c`).
const PANIC: &str = "Kernel panic - not syncing: ";

/// How the lines of /init begin; as long as it boots the last may tell why it
/// gave up.
const INIT: &str = "virtinit: ";

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

    /// What is left to be told when it is over, be it while the guest booted.
    #[must_use]
    pub fn last_words(&self, boots: bool) -> LastWords {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let starts: &[&str] = if boots { &[PANIC, INIT] } else { &[PANIC] };
        last_words(&printable(&bytes), starts, !self.shown)
    }
}

/// The end of a console's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// Why the kernel panicked or /init gave up, if one of them did.
    pub reason: Option<String>,
    /// Lines to be shown to a person who has not seen them, each with its
    /// newline: the last ones, or those from the reason on.
    pub lines: String,
}

fn last_words(text: &str, starts: &[&str], unseen: bool) -> LastWords {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let reason_of = |line: &str| {
        let mut found = starts.iter().filter_map(|start| line.split_once(start));
        found.next().map(|(_, reason)| reason.to_owned())
    };
    let at = lines.iter().rposition(|line| reason_of(line).is_some());
    let first = lines.len().saturating_sub(TAIL).min(at.unwrap_or(usize::MAX));
    let shown = lines[first..].iter().take(if unseen { TAIL } else { 0 });
    let shown = shown.flat_map(|line| ["  ", line, "\n"]).collect();
    LastWords { reason: at.and_then(|at| reason_of(lines[at])), lines: shown }
}

/// Without what would steer a terminal: a guest's text is not trusted.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
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
        let tail = console.last_words(true).lines;
        assert_eq!(tail.lines().count(), TAIL);
        assert!(tail.ends_with("  line 8999\n  [31mréd2J\n"), "{tail:?}");
        assert!(console.fd().is_none() && console.kept.len() <= KEPT);
    }

    #[test]
    fn a_panic_is_shown_from_its_start() {
        let trace = "[ 1.0]  x+0x1/0x2\n".repeat(40);
        let panic =
            format!("boot\n[ 1.0] Kernel panic - not syncing: Attempted to kill init!\n{trace}");
        let words = last_words(&panic, &[PANIC], true);
        assert_eq!(words.reason.unwrap(), "Attempted to kill init!");
        assert!(words.lines.starts_with("  [ 1.0] Kernel panic"), "{}", words.lines);
        assert_eq!(words.lines.lines().count(), TAIL);
        let gave_up = "[ 1.0] virtinit: a warning\n[ 1.0] virtinit: mount x: ENOENT\nreboot: bye\n";
        let words = last_words(gave_up, &[PANIC, INIT], true);
        assert_eq!(words.reason.unwrap(), "mount x: ENOENT");
        assert_eq!(words.lines.lines().count(), 3);
        assert_eq!(last_words(gave_up, &[PANIC], false), LastWords::default());
        assert_eq!(last_words("", &[PANIC, INIT], true), LastWords::default());
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
