//! Text for people, and results for programs.
//!
//! Interfaces: write(2), poll(2). A message for which there is no reader is not an
//! error: it never changes an exit status, never panics, and never blocks for longer
//! than `PATIENCE`. A result that cannot be written is an error, unless its reader
//! has left. Everything on standard error passes [`printable`].

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a message may wait for its reader.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that a pipe takes without blocking once poll(2) calls it writable
/// (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

/// Start of each further line of a message, so that a name with a newline cannot forge
/// a message.
const CONTINUED: &str = "\n  ";

/// Whether a message was given up; later messages do not wait.
static STUCK: AtomicBool = AtomicBool::new(false);

/// Prints a message on standard error, after a label such as `error: `. Loggers call
/// this; everything else logs.
pub fn labelled(label: &str, text: impl Display) {
    send(composed(label, &text.to_string()));
}

/// Prints an answer on standard error, where standard output belongs to the guest or
/// to another result.
pub fn note(text: impl Display) {
    labelled("", text);
}

/// Prints lines on standard error; each of them has its newline.
pub fn lines(text: impl Display) {
    send(printable(text.to_string().as_bytes()));
}

/// Writes a result to standard output; its newlines are part of it.
///
/// # Errors
/// Those of write(2), but for a reader who has left: that is the reader's affair.
pub fn result(text: impl Display) -> Result<()> {
    let mut out = crate::output::stdout()?;
    let written = out.write_all(text.to_string().as_bytes());
    while_read(written.context("write to standard output"))
}

/// The result of writing, where a reader who has left, as head(1) does, is no error.
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

/// Text without what would steer a terminal: control characters, and those that
/// reorder what is shown (Unicode's `Bidi_Control`). A guest's text and the names
/// in a root file system are not trusted.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let reorders = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|&c| matches!(c, '\n' | '\t') || !(c.is_control() || reorders(c))).collect()
}

/// A path or another name in one line, with escapes for what cannot be printed.
#[must_use]
pub fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

/// Writes all of `bytes`, whether `fd` blocks or not.
///
/// # Errors
/// Those of write(2).
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            // A file that takes nothing without an error would be tried for ever.
            Ok(0) => return Err(Errno::EIO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Another process that shares the file has made it non-blocking.
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

fn send(text: String) {
    let now = PollTimeout::ZERO;
    if STUCK.load(Ordering::Relaxed) && !is_writable(std::io::stderr().as_fd(), now) {
        return;
    }
    let text: Arc<str> = text.into();
    let theirs = Arc::clone(&text);
    let write = move || {
        let _ = write_all(std::io::stderr().as_fd(), theirs.as_bytes()); // nobody to tell
    };
    match in_time(write, PATIENCE) {
        Some(is_written) => STUCK.store(!is_written, Ordering::Relaxed),
        None => piecewise(&text),
    }
}

/// Runs `body`, which may block, in a thread. Returns whether it ended within `limit`;
/// `None` if no thread can be started. A thread that does not end is left alone.
///
/// The descriptor cannot be made non-blocking instead: other processes share it.
fn in_time(body: impl FnOnce() + Send + 'static, limit: Duration) -> Option<bool> {
    let (ends, ended) = channel::<()>();
    let body = move || {
        let _ends = ends; // dropped at the end
        body();
    };
    let thread = std::thread::Builder::new().spawn(body).ok()?;
    let is_over = ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout);
    if is_over {
        // A process has to have one thread only when it enters a user namespace
        // (setns(2)).
        let _ = thread.join(); // writing does not panic
    }
    Some(is_over)
}

/// Writes without a thread, in pieces that do not block.
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
    fn nothing_steers_a_terminal_and_no_name_forges_a_line() {
        let name = "6.1\u{1b}]0;x\u{7}\r\u{9b}2J\u{202e}y\nerror: forged\t";
        assert_eq!(composed("error: ", name), "error: 6.1]0;x2Jy\n  error: forged\n");
        assert_eq!(printable(b"\x1b[31mr\xc3\xa9d\xc2\x9b2J \x9b\n"), "[31mréd2J \u{fffd}\n");
    }

    #[test]
    fn a_reader_that_is_stuck_is_left_alone() {
        let (_reader, writer) = std::io::pipe().unwrap();
        // More than a pipe holds.
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
    fn errors_of_writing_are_told() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write_all(full.as_fd(), b"x"), Err(Errno::ENOSPC));
        let gone = std::io::Error::from(ErrorKind::BrokenPipe);
        assert!(while_read(Err(gone).context("write")).is_ok());
        let full = std::io::Error::from_raw_os_error(Errno::ENOSPC as i32);
        assert!(while_read(Err(full).context("write")).is_err());
    }
}
