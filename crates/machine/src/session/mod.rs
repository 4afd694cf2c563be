//! The host's side of a session: what `init::session` talks to.

pub mod channels;
pub mod console;
pub mod escape;
pub mod foreground;
pub mod streams;
pub mod terminal;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Result;
use files::tell::printable;
use nix::errno::Errno;
use virtinitrd_proto::control::{Lines, ToGuest, ToHost};
use virtinitrd_proto::settings::Size;

use crate::running::outcome::EXIT_TROUBLE;
use crate::session::streams::{Event, Streams};

/// Statuses of a command that did not start (`ToHost::Failed`). Another status from a
/// guest counts as trouble.
const FAILURES: RangeInclusive<u8> = EXIT_TROUBLE..=127;

/// How often an update reads the control channel at the most, 4 KiB each time.
const READS: usize = 16;

/// What the guest has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Booting,
    /// The command runs.
    Running,
    /// It has ended, and all of its output is written.
    Ended(u8),
    /// Some of its output cannot be written, for another reason than that nobody
    /// reads it.
    Unwritten(Errno),
    /// It could not be started, or served any longer: exit status and reason.
    Failed(u8, String),
    /// The guest's end was closed.
    Lost,
}

/// By the guest's clock, times since the kernel's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// `/init` began.
    pub init: Duration,
    /// The command began.
    pub command: Duration,
}

/// A session under way.
#[derive(Debug)]
pub struct Session {
    control: UnixStream,
    open: bool,
    lines: Lines,
    streams: Streams,
    state: State,
    started: Option<Started>,
    /// Status, and bytes of output and error that are to arrive before it holds.
    ending: Option<(u8, [u64; 2])>,
    /// What the control channel has not taken yet.
    unsent: VecDeque<u8>,
    /// Whether the guest knows that nobody reads output or error.
    closed: [bool; 2],
    escaped: bool,
    foreground: bool,
}

impl Session {
    /// Takes our ends of `channels`.
    pub fn start(channels: [OwnedFd; 4], is_terminal: bool) -> Result<Self> {
        let [control, ports @ ..] = channels;
        Self::with(control, Streams::start(ports, is_terminal)?)
    }

    /// A session on the control channel `control` and `streams`.
    fn with(control: OwnedFd, streams: Streams) -> Result<Self> {
        let control = UnixStream::from(control);
        control.set_nonblocking(true)?;
        Ok(Self {
            control,
            open: true,
            lines: Lines::default(),
            streams,
            state: State::Booting,
            started: None,
            ending: None,
            unsent: VecDeque::new(),
            closed: [false; 2],
            escaped: false,
            foreground: false,
        })
    }

    /// As the guest has told.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When the command began, once it has, however it went on since.
    #[must_use]
    pub fn started(&self) -> Option<Started> {
        self.started
    }

    /// Whether the person at the terminal has asked for the end.
    #[must_use]
    pub fn was_escaped(&self) -> bool {
        self.escaped
    }

    /// Whether the terminal has become ours to use since this was asked last.
    pub fn take_foreground(&mut self) -> bool {
        std::mem::take(&mut self.foreground)
    }

    /// Whether the command has ended, but not all of its output is written yet.
    #[must_use]
    pub fn is_delivering(&self) -> bool {
        self.ending.is_some() && self.state == State::Running
    }

    /// Why output cannot be written, where it is more than that nobody reads it.
    fn write_error(&self) -> Option<Errno> {
        let mut errors = self.streams.deliveries.iter().filter_map(|delivery| delivery.broken());
        errors.find(|errno| *errno != Errno::EPIPE)
    }

    /// What to wait for: readable, and whether writable as well.
    #[must_use]
    pub fn fds(&self) -> Vec<(BorrowedFd<'_>, bool)> {
        let control = (self.control.as_fd(), !self.unsent.is_empty());
        let open = self.open.then_some(control);
        open.into_iter().chain([(self.streams.fd(), false)]).collect()
    }

    /// Takes in all that has happened.
    pub fn update(&mut self) {
        let events = self.streams.events();
        self.escaped |= events.contains(&Event::Escaped);
        self.foreground |= events.contains(&Event::Foreground);
        self.read();
        for at in 0..2 {
            if !self.closed[at] && self.streams.deliveries[at].broken().is_some() {
                self.closed[at] = true;
                self.say(ToGuest::Close(if at == 0 { 1 } else { 2 }));
            }
        }
        self.flush();
        if matches!(self.state, State::Booting | State::Running) {
            self.conclude();
        }
    }

    /// Takes a status only once every byte before it was written, without an error.
    fn conclude(&mut self) {
        // The order matters: a delivery notes its error and counts its bytes before it
        // notes its end.
        let has_ended = self.streams.deliveries.iter().all(|delivery| delivery.has_ended());
        if let Some(errno) = self.write_error() {
            self.state = State::Unwritten(errno);
            return;
        }
        let Some((status, expected)) = self.ending else { return };
        let mut pairs = self.streams.deliveries.iter().zip(expected);
        let is_here = pairs.all(|(delivery, expected)| delivery.bytes() >= expected);
        if has_ended {
            self.state = if is_here { State::Ended(status) } else { State::Lost };
        } else if is_here {
            self.streams.finish();
        }
    }

    /// Says something to the guest.
    pub fn say(&mut self, message: ToGuest) {
        self.send(message.to_string().as_bytes());
    }

    /// Asks for a command: the records of [`virtinitrd_proto::settings`].
    pub fn request(&mut self, records: &[u8]) {
        self.say(ToGuest::Command(records.len()));
        self.send(records);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.flush();
    }

    /// Lets a terminal's output through, which is held back until then.
    pub fn show_output(&mut self) {
        self.streams.show();
    }

    /// Sends a signal to the command.
    pub fn signal(&mut self, signal: nix::sys::signal::Signal) {
        self.say(ToGuest::Signal(signal as u8));
    }

    /// Tells the command the size of its terminal.
    pub fn resize(&mut self, size: Size) {
        self.say(ToGuest::Resize(size));
    }

    /// Reads what is there, but only so much: a guest that never stops talking
    /// must not keep us from all else. The rest wakes us again.
    fn read(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..READS {
            if !self.open {
                break;
            }
            match self.control.read(&mut chunk) {
                Ok(0) => self.lose(),
                Ok(count) => {
                    self.lines.push(&chunk[..count]);
                    self.take_lines();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.lose(),
            }
        }
    }

    fn take_lines(&mut self) {
        while let Some(line) = self.lines.next_line() {
            match ToHost::parse(&line) {
                Some(ToHost::Started { init, now }) if self.state == State::Booting => {
                    self.state = State::Running;
                    self.started = Some(Started { init, command: now });
                    self.streams.opened();
                }
                // A command that never began has no status.
                Some(ToHost::Exited { status, output, error }) if self.state == State::Running => {
                    self.ending.get_or_insert((status, [output, error]));
                }
                // Also once it runs: who serves it in the guest may die.
                Some(ToHost::Failed { status, message }) if self.ending.is_none() => {
                    let status = if FAILURES.contains(&status) { status } else { EXIT_TROUBLE };
                    self.state = State::Failed(status, printable(&message));
                }
                // A guest may say what it likes.
                _ => {}
            }
        }
    }

    fn lose(&mut self) {
        self.open = false;
        if self.ending.is_none() && matches!(self.state, State::Booting | State::Running) {
            self.state = State::Lost;
        }
    }

    fn flush(&mut self) {
        while self.open && !self.unsent.is_empty() {
            let (bytes, _) = self.unsent.as_slices();
            match self.control.write(bytes) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Either it is full, or reading will tell that it is gone.
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
