//! The guest's console while a command runs: its tail is kept for error messages.
//!
//! The text is also shown on standard error (`--verbose`) and logged (`--keep`) on request.
//! The guest is not trusted: all buffers are bounded, and control characters are removed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use files::tell::printable;
use proto::console::{NO_PORT, PREFIX as INIT};

/// Size of the kept tail in bytes.
const KEPT: usize = 64 << 10;

/// Number of lines that an error message shows.
const TAIL: usize = 25;

/// Maximum length of a shown line in characters.
const LINE: usize = 400;

/// Message of a kernel that has halted, while the machine stays on (`kernel_halt()` of
/// `kernel/reboot.c`).
const HALTED: &[u8] = b"reboot: System halted";

/// Start of the kernel's message about a panic; the reason follows (`panic()` of
/// `kernel/panic.c`).
const PANIC: &str = "Kernel panic - not syncing: ";

/// Message of the kernel about a processor that is stuck in the kernel (`watchdog_timer_fn()` of
/// `kernel/watchdog.c`).
const LOCKUP: &[u8] = b"watchdog: BUG: soft lockup - CPU#";

/// Maximum number of reads of 4 KiB in one call. A guest that writes without end must not
/// keep chrootvm busy. The reads together exceed the buffer of a socket, so one call reads
/// everything that an ended QEMU has left.
const READS: usize = 256;

/// Maximum size of a log in bytes, because a guest must not fill the disk.
const LOG_MAX: u64 = 64 << 20;

/// Maximum number of pieces of text that wait to be shown.
const QUEUE: usize = 256;

/// Time to show the waiting text at the end of a run.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// chrootvm's end of the guest's console.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    open: bool,
    kept: VecDeque<u8>,
    halted: bool,
    screen: Option<Screen>,
    log: Option<Log>,
}

impl Console {
    /// Makes a console; the second value is QEMU's end. If `shown`, the text also goes to
    /// standard error; if there is a `log`, all of the text is written to it.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn pair(shown: bool, log: Option<File>) -> Result<(Self, OwnedFd)> {
        let (stream, theirs) = UnixStream::pair().context("make a socket for the console")?;
        stream.set_nonblocking(true)?;
        let kept = VecDeque::new();
        let screen = shown.then(|| Screen::start(std::io::stderr()));
        let log = log.map(|file| Log { file, room: LOG_MAX });
        Ok((Self { stream, open: true, kept, halted: false, screen, log }, theirs.into()))
    }

    /// Descriptor to wait for; `None` if QEMU has closed the console.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.stream.as_fd())
    }

    /// Reads and handles the text that has arrived.
    pub fn read(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..READS {
            if !self.open {
                break;
            }
            match self.stream.read(&mut chunk) {
                Ok(count @ 1..) => self.take(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => self.open = false,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Some(screen) = &self.screen {
            screen.show(printable(bytes));
        }
        if let Some(log) = &mut self.log
            && let Err(problem) = log.write(bytes)
        {
            // The command goes on: it matters more than the log.
            log::warn!("the console's log ends early: {problem:#}");
            self.log = None;
        }
        self.kept.extend(bytes);
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        self.halted |= self.ends_with(bytes.len(), HALTED);
    }

    /// Whether `words` occur in the kept text and end within the last `fresh` bytes.
    fn ends_with(&self, fresh: usize, words: &[u8]) -> bool {
        let start = self.kept.len().saturating_sub(fresh + words.len());
        let tail: Vec<u8> = self.kept.range(start..).copied().collect();
        tail.windows(words.len()).any(|window| window == words)
    }

    /// Whether the kernel has reported that it halted.
    #[must_use]
    pub fn reports_halt(&self) -> bool {
        self.halted
    }

    /// Whether the kernel has reported that a processor is stuck.
    #[must_use]
    pub fn reports_lockup(&mut self) -> bool {
        let kept = self.kept.make_contiguous();
        kept.windows(LOCKUP.len()).any(|words| words == LOCKUP)
    }

    /// Last line of the console that is not empty; `None` if there is none.
    #[must_use]
    pub fn last_line(&self) -> Option<String> {
        let start = self.kept.len().saturating_sub(LINE);
        let tail: Vec<u8> = self.kept.range(start..).copied().collect();
        let tail = printable(&tail);
        tail.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
    }

    /// Last lines of the console for an error message. If the machine ended while it was
    /// booting, a message of `/init` may give the reason.
    #[must_use]
    pub fn last_words(&self, phase: MachinePhase) -> LastWords {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let starts: &[&str] = match phase {
            MachinePhase::Booting => &[PANIC, INIT],
            MachinePhase::Booted => &[PANIC],
        };
        let tail = printable(&bytes);
        let words = last_words(&tail, starts, self.screen.is_none());
        LastWords { tail, ..words }
    }
}

/// Whether a machine was still booting when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachinePhase {
    /// The command had not started.
    Booting,
    /// The command had started.
    Booted,
}

/// Standard error as a target for the console's text. Writing may block, so a thread does
/// it; text is dropped if the thread is far behind.
#[derive(Debug)]
struct Screen {
    /// `None` only while this value is dropped.
    queue: Option<SyncSender<String>>,
    /// Closed when the thread has written everything.
    ended: Receiver<()>,
}

impl Screen {
    fn start(mut target: impl Write + Send + 'static) -> Self {
        let (queue, texts) = sync_channel::<String>(QUEUE);
        let (ends, ended) = sync_channel(0);
        std::thread::spawn(move || {
            let _ends: SyncSender<()> = ends; // dropped when the thread ends
            for text in texts {
                // An error means that nobody reads the text.
                let _ = target.write_all(text.as_bytes());
            }
        });
        Self { queue: Some(queue), ended }
    }

    fn show(&self, text: String) {
        // An error means that the queue is full, and the text is dropped.
        let _ = self.queue.as_ref().map(|queue| queue.try_send(text));
    }
}

impl Drop for Screen {
    /// Waits until the text is shown, so that later messages follow it.
    fn drop(&mut self) {
        self.queue = None;
        let _ = self.ended.recv_timeout(LAST_WAIT); // the thread ends, or hangs in a write
    }
}

/// A file for all of the console's text, up to `LOG_MAX` bytes.
#[derive(Debug)]
struct Log {
    file: File,
    room: u64,
}

impl Log {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let room = self.room.checked_sub(bytes.len() as u64);
        self.room = room.with_context(|| format!("it has {} MiB", LOG_MAX >> 20))?;
        self.file.write_all(bytes).context("write it")
    }
}

/// Tail of a console's text for an error message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// Reason why the kernel panicked or `/init` gave up; `None` if neither happened.
    pub reason: Option<String>,
    /// Lines to show, each with its newline: the last lines, or those from the reason on.
    /// Empty if the console was already shown.
    pub lines: String,
    /// All of the text that is kept, shown or not.
    pub tail: String,
}

/// Finds the reason of a failure and the lines to show in `text`. A reason follows one of
/// `starts`; lines are returned only if the user has not seen them (`unseen`).
fn last_words(text: &str, starts: &[&str], unseen: bool) -> LastWords {
    let lines: Vec<String> = text.lines().map(shorten).collect();
    let lines: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| !line.trim().is_empty()).collect();
    let reason_of = |line: &str| {
        let mut found = starts.iter().filter_map(|start| line.split_once(start));
        let reason = found.next().map(|(_, reason)| reason.to_owned());
        reason.filter(|reason| !reason.starts_with(NO_PORT))
    };
    let at = lines.iter().rposition(|line| reason_of(line).is_some());
    let first = lines.len().saturating_sub(TAIL).min(at.unwrap_or(usize::MAX));
    let shown = lines[first..].iter().take(if unseen { TAIL } else { 0 });
    let shown = shown.flat_map(|line| ["  ", line, "\n"]).collect();
    LastWords { reason: at.and_then(|at| reason_of(lines[at])), lines: shown, tail: String::new() }
}

/// `line`, cut to [`LINE`] characters.
fn shorten(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}[...]", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_has_no_control_characters() {
        let (mut console, theirs) = Console::pair(false, None).unwrap();
        let mut theirs = UnixStream::from(theirs);
        for number in 0..9000 {
            writeln!(theirs, "line {number}\r").unwrap();
            console.read();
        }
        theirs.write_all(b"\n\x1b[31mr\xc3\xa9d\xc2\x9b2J\n").unwrap();
        drop(theirs);
        console.read();
        let tail = console.last_words(MachinePhase::Booting).lines;
        assert_eq!(tail.lines().count(), TAIL);
        assert!(tail.ends_with("  line 8999\n  [31mréd2J\n"), "{tail:?}");
        assert!(console.fd().is_none() && console.kept.len() <= KEPT);
    }

    #[test]
    fn the_last_line_is_not_empty() {
        let (mut console, theirs) = Console::pair(false, None).unwrap();
        let mut theirs = UnixStream::from(theirs);
        for (text, expected) in [
            ("", None),
            ("\r\n \r\n", None),
            ("[ 1.0] first\r\n", Some("[ 1.0] first")),
            ("[ 2.0] sec", Some("[ 2.0] sec")),
            ("ond\r\n\x1b\r\n", Some("[ 2.0] second")),
        ] {
            theirs.write_all(text.as_bytes()).unwrap();
            console.read();
            assert_eq!(console.last_line().as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        for text in ["x".repeat(KEPT), format!("{PANIC}{}", "é".repeat(KEPT / 2))] {
            let words = last_words(&text, &[PANIC], true);
            assert!(words.lines.chars().count() < LINE + 20, "{}", words.lines.len());
            assert!(words.reason.is_none_or(|reason| reason.chars().count() < LINE + 20));
        }
    }

    #[test]
    fn a_halt_is_noticed_if_its_message_arrives_in_pieces() {
        for size in [1, 7, 4096] {
            let (mut console, theirs) = Console::pair(false, None).unwrap();
            let mut theirs = UnixStream::from(theirs);
            for piece in b"[ 1.0] reboot: System is fine\n".chunks(size) {
                theirs.write_all(piece).unwrap();
                console.read();
            }
            assert!(!console.reports_halt());
            for piece in b"[ 2.0] reboot: System halted\n".chunks(size) {
                theirs.write_all(piece).unwrap();
                console.read();
            }
            assert!(console.reports_halt(), "{size}");
        }
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
        let debug = format!("{gave_up}{INIT}{NO_PORT}: ENOENT\n");
        let words = last_words(&debug, &[PANIC, INIT], true);
        assert_eq!(words.reason.unwrap(), "mount x: ENOENT");
        assert_eq!(last_words(gave_up, &[PANIC], false), LastWords::default());
        assert_eq!(last_words("", &[PANIC, INIT], true), LastWords::default());
    }

    #[test]
    fn an_error_of_the_log_does_not_stop_the_console() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (mut console, theirs) = Console::pair(false, Some(full)).unwrap();
        UnixStream::from(theirs).write_all(b"text").unwrap();
        console.read();
        assert!(console.log.is_none() && console.kept == b"text");
        let mut log = Log { file: tempfile::tempfile().unwrap(), room: 3 };
        log.write(b"abc").unwrap();
        assert!(log.write(b"d").is_err());
    }

    #[test]
    fn a_screen_without_a_reader_does_not_block() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let screen = Screen::start(ours.try_clone().unwrap());
        screen.show("first".into());
        drop(screen);
        let mut text = [0; 5];
        theirs.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"first");
        let screen = Screen::start(ours);
        for _ in 0..10 * QUEUE {
            screen.show("x".repeat(4096));
        }
        drop(screen);
    }

    #[test]
    fn a_log_gets_every_byte_unchanged() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut console, theirs) = Console::pair(false, Some(file.reopen().unwrap())).unwrap();
        UnixStream::from(theirs).write_all(b"\x1b[31mred\r\n").unwrap();
        console.read();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"\x1b[31mred\r\n");
    }
}
