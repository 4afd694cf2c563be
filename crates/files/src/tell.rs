//! Text for people on standard error, and results for programs on standard output.
//!
//! Libraries log through the `log` crate; the logger of a program prints with [`labelled`].
//!
//! A program that waits may show a status: one line at the end of the terminal that the next
//! message erases.
//!
//! Interfaces: write(2), poll(2), ECMA-48 for the status. A message without a reader is not an
//! error: it neither changes the exit status nor panics, and it waits no longer than `PATIENCE`.
//! A result that cannot be written is an error, unless its reader has closed the pipe. The text
//! of a message goes through [`printable`]; that of a status is one line of ASCII.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{getpgrp, tcgetpgrp};
use terminal_size::{Width, terminal_size_of};

/// Longest time that a message waits for its reader.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that a write to a pipe takes without blocking if poll(2) reports it writable
/// (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

/// Line break within a message. The indent keeps a name with a newline from looking like
/// another message.
const CONTINUED: &str = "\n  ";

/// Returns to the start of the line, and erases it (`CR` and `EL` of ECMA-48).
const ERASE: &str = "\r\x1b[K";

/// Width of a terminal that does not tell its size.
const COLUMNS: u16 = 80;

/// The status of this program. The lock is held while the status is written, so that no status
/// follows its end.
static STATUS: Mutex<Status> = Mutex::new(Status::Absent);

/// State of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// It is not on the terminal.
    Absent,
    /// It is in the last line of the terminal.
    Shown,
    /// It is not wanted any more.
    Over,
}

/// Whether the reader did not take an earlier message in time. Then later messages do not
/// wait.
static STUCK: AtomicBool = AtomicBool::new(false);

/// Prints a message on standard error, after a label such as `error: `. Loggers call
/// this; everything else logs.
pub fn labelled(label: &str, text: impl Display) {
    send(&composed(label, &text.to_string()));
}

/// Prints an answer on standard error. For commands whose standard output belongs to the
/// guest or to another result.
pub fn note(text: impl Display) {
    labelled("", text);
}

/// Prints lines on standard error. The text contains the newline of each line.
pub fn lines(text: impl Display) {
    send(&printable(text.to_string().as_bytes()));
}

/// Shows `text` in the last line of the terminal on standard error, in place of an earlier
/// status. The next message erases it. Nothing is shown if standard error is no terminal that can
/// erase a line, if this program is in the background of the terminal, or after [`end_status`].
pub fn status(text: impl Display) {
    let stderr = std::io::stderr();
    let can_erase = stderr.is_terminal() && is_display(std::env::var_os("TERM").as_deref());
    let mut status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    if *status != Status::Over && can_erase && is_foreground() {
        let width = terminal_size_of(&stderr).map_or(COLUMNS, |(Width(columns), _)| columns);
        write(format!("{ERASE}{}", one_line(&text.to_string(), width)));
        *status = Status::Shown;
    }
}

/// Erases the status; none is shown any more. To be called when the wait is over, and before the
/// first output that is no message.
pub fn end_status() {
    let mut status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    if erasure(*status) == ERASE {
        write(ERASE.into());
    }
    *status = Status::Over;
}

/// Whether no status is shown any more.
#[must_use]
pub fn has_status_ended() -> bool {
    *STATUS.lock().unwrap_or_else(PoisonError::into_inner) == Status::Over
}

/// The text that erases a status; empty if there is none. In the background, the status is not in
/// the last line any more.
fn erasure(status: Status) -> &'static str {
    if status == Status::Shown && is_foreground() { ERASE } else { "" }
}

/// Whether a terminal of type `term` can erase a line; all but `dumb` ones can.
fn is_display(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether this program is in the foreground of the terminal on standard error. A terminal that
/// does not control this program is free to use.
fn is_foreground() -> bool {
    tcgetpgrp(std::io::stderr()).map_or(true, |foreground| foreground == getpgrp())
}

/// `text` as a status for a terminal of this `width`. The last column stays free, because some
/// terminals begin a new line there. All characters are ASCII, which takes one column each.
fn one_line(text: &str, width: u16) -> String {
    let plain = |c: char| match c {
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().take(usize::from(width.saturating_sub(1))).map(plain).collect()
}

/// Writes a result to standard output. The text contains all newlines.
///
/// # Errors
/// Errors of write(2), except for a closed pipe.
pub fn result(text: impl Display) -> Result<()> {
    let mut out = crate::output::stdout()?;
    let written = out.write_all(text.to_string().as_bytes());
    while_read(written.context("write to standard output"))
}

/// Ignores the error of a closed pipe in the result of writing: the reader, such as head(1),
/// has read enough.
pub fn while_read(result: Result<()>) -> Result<()> {
    let is_over = |error: &anyhow::Error| {
        let cause = error.root_cause().downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if is_over(&error) => Ok(()),
        result => result,
    }
}

/// Removes the characters from a text that control a terminal: control characters, and
/// characters that change the order of the text (Unicode's `Bidi_Control`). Texts of a guest
/// and names in a root file system are not trusted.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let reorders = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|&c| matches!(c, '\n' | '\t') || !(c.is_control() || reorders(c))).collect()
}

/// A path or another name as one line of text, with escapes for unprintable characters.
#[must_use]
pub fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

/// Writes all of `bytes`, even if `fd` is non-blocking.
///
/// # Errors
/// Errors of write(2).
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            // Without this error, the loop would never end.
            Ok(0) => return Err(Errno::EIO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Another process that shares the file has set it non-blocking.
            Err(Errno::EAGAIN) => drop(is_writable(fd, PollTimeout::NONE)),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn composed(start: &str, text: &str) -> String {
    let text = printable(text.as_bytes());
    format!("{start}{}\n", text.trim_end().replace('\n', CONTINUED))
}

/// Prints a message in place of the status.
fn send(text: &str) {
    let mut status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    let erasure = erasure(*status);
    if *status == Status::Shown {
        *status = Status::Absent;
    }
    drop(status);
    write(format!("{erasure}{text}"));
}

fn write(text: String) {
    let now = PollTimeout::ZERO;
    if STUCK.load(Ordering::Relaxed) && !is_writable(std::io::stderr().as_fd(), now) {
        return;
    }
    let text: Arc<str> = text.into();
    let theirs = Arc::clone(&text);
    let body = move || {
        let _ = write_all(std::io::stderr().as_fd(), theirs.as_bytes()); // nowhere to report it
    };
    match in_time(body, PATIENCE) {
        Some(is_written) => STUCK.store(!is_written, Ordering::Relaxed),
        None => piecewise(&text),
    }
}

/// Runs `body`, which may block, in a thread. Returns whether it ended within `limit`;
/// `None` if no thread can be started. A thread that does not end in time goes on.
///
/// Setting standard error non-blocking is no alternative, because other processes share it.
fn in_time(body: impl FnOnce() + Send + 'static, limit: Duration) -> Option<bool> {
    let (ends, ended) = channel::<()>();
    let body = move || {
        let _ends = ends; // closes the channel when `body` has ended
        body();
    };
    // A signal must not be delivered to a thread that goes on: the main thread may have
    // blocked the signal, and read it from a descriptor.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok()?;
    let thread = std::thread::Builder::new().spawn(body);
    let _ = mask.thread_set_mask(); // the mask is one that was set before
    let thread = thread.ok()?;
    let is_over = ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout);
    if is_over {
        // Wait for the thread: a process that enters a user namespace must have only one
        // (setns(2)).
        let _ = thread.join(); // writing does not panic
    }
    Some(is_over)
}

/// Writes without a thread, in pieces so small that they do not block.
fn piecewise(text: &str) {
    let stderr = std::io::stderr();
    for piece in text.as_bytes().chunks(PIPE_BUF) {
        let limit = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO);
        if !is_writable(stderr.as_fd(), limit) || write_all(stderr.as_fd(), piece).is_err() {
            return;
        }
    }
}

fn is_writable(fd: BorrowedFd<'_>, limit: PollTimeout) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], limit) != Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn no_text_controls_a_terminal_or_looks_like_a_message() {
        let name = "6.1\u{1b}]0;x\u{7}\r\u{9b}2J\u{202e}y\nerror: forged\t";
        assert_eq!(composed("error: ", name), "error: 6.1]0;x2Jy\n  error: forged\n");
        assert_eq!(printable(b"\x1b[31mr\xc3\xa9d\xc2\x9b2J \x9b\n"), "[31mréd2J \u{fffd}\n");
    }

    #[test]
    fn a_status_fits_into_one_line() {
        for (text, width, expected) in [
            ("booting", 80, "booting"),
            ("booting", 8, "booting"),
            ("booting", 4, "boo"),
            ("é\n\u{1b}[2J\t世", 80, "???[2J??"),
            ("booting", 0, ""),
        ] {
            assert_eq!(one_line(text, width), expected, "{text:?} {width}");
        }
        for (term, expected) in [
            (Some("xterm"), true),
            (Some("linux"), true),
            (Some("dumb"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_display(term.map(OsStr::new)), expected, "{term:?}");
        }
    }

    #[test]
    fn a_message_does_not_wait_for_a_stuck_reader() {
        let (_reader, writer) = std::io::pipe().unwrap();
        // More bytes than a pipe can hold.
        let text = vec![b'x'; 4 << 20];
        let write = move || assert!(write_all(writer.as_fd(), &text).is_err());
        assert_eq!(in_time(write, Duration::from_millis(50)), Some(false));
        assert_eq!(in_time(|| (), Duration::from_secs(60)), Some(true));
    }

    #[test]
    fn short_writes_are_continued() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).map(|_| read)
        });
        write_all(ours.as_fd(), &bytes).unwrap();
        drop(ours);
        assert!(reader.join().unwrap().unwrap() == bytes);
    }

    #[test]
    fn errors_of_writing_are_reported() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write_all(full.as_fd(), b"x"), Err(Errno::ENOSPC));
        let gone = std::io::Error::from(ErrorKind::BrokenPipe);
        assert!(while_read(Err(gone).context("write")).is_ok());
        let full = std::io::Error::from_raw_os_error(Errno::ENOSPC as i32);
        assert!(while_read(Err(full).context("write")).is_err());
    }
}
