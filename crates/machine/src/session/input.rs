//! Reading chrootvm's standard input for the guest.
//!
//! Interfaces: read(2), tcgetpgrp(3). Standard input may be shared with other processes, so it
//! stays blocking, and a thread reads it.

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::escape::{EscapeState, TypedKeys};
use super::terminal;

/// Size of the buffer of a relay in bytes.
pub const BUFFER: usize = 256 << 10;

/// Interval between the keys that end the input. A program may get the key before it reads the
/// terminal in its own mode, in which the key means something else.
const END_TICK: Duration = Duration::from_secs(1);

/// Ctrl-D, which ends the input of a terminal (`VEOF`, termios(3)). Within a line, it only ends
/// the line.
pub const END_OF_INPUT: &[u8] = b"\x04";

/// Interval at which a job in the background checks whether it may read the terminal.
const FOREGROUND_TICK: Duration = Duration::from_millis(200);

/// Meaning of Enter `~` `.` in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// It ends the machine, if standard input is a terminal.
    Typed,
    /// It is data.
    Never,
}

/// Event during the copying of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// The user typed the escape sequence.
    Escaped,
    /// chrootvm has returned to the foreground of its terminal.
    Foreground,
}

/// Copies standard input to the port until its end. Returns the last byte of the input, if it
/// had any.
pub fn copy(
    mut port: &UnixStream,
    escapes: Escapes,
    report: &mut dyn FnMut(InputEvent),
) -> Option<u8> {
    let stdin = std::io::stdin();
    // Input that is no terminal is data and has no escape sequence.
    let may_escape = escapes == Escapes::Typed && stdin.is_terminal();
    let mut escape = EscapeState::default();
    let mut buffer = vec![0; BUFFER];
    let mut last = None;
    loop {
        if wait_for_foreground(stdin.as_fd()) {
            report(InputEvent::Foreground);
        }
        let count = match nix::unistd::read(&stdin, &mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                let readable = PollFd::new(stdin.as_fd(), PollFlags::POLLIN);
                let _ = poll(&mut [readable], PollTimeout::NONE); // the next read reports an error
                continue;
            }
            // chrootvm has just moved to the background, where reading fails because SIGTTIN
            // is blocked.
            Err(Errno::EIO) if terminal::is_background(stdin.as_fd()) => continue,
            // A closed or hung-up input counts as its end.
            Err(_) => break,
        };
        let typed = match may_escape {
            true => escape.take(&buffer[..count]),
            false => TypedKeys { bytes: buffer[..count].to_vec(), ends: false },
        };
        last = typed.bytes.last().copied().or(last);
        if typed.ends {
            report(InputEvent::Escaped);
        }
        if port.write_all(&typed.bytes).is_err() {
            return last;
        }
    }
    let _ = port.write_all(escape.rest()); // an error means that QEMU is gone
    last
}

/// Types the keys `before`, and then Ctrl-D until the port is closed, for each program in the
/// guest that reads its terminal.
pub fn type_end(mut port: &UnixStream, before: &[u8]) {
    let mut is_open = port.write_all(before).is_ok();
    while is_open {
        is_open = port.write_all(END_OF_INPUT).is_ok();
        std::thread::sleep(END_TICK);
    }
}

/// Waits until chrootvm is in the foreground and may read its terminal. Returns whether it
/// had to wait.
fn wait_for_foreground(stdin: BorrowedFd<'_>) -> bool {
    let waits = terminal::is_background(stdin);
    while terminal::is_background(stdin) {
        std::thread::sleep(FOREGROUND_TICK);
    }
    waits
}
