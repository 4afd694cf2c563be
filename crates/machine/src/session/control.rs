//! A session and its control channel: the guest reports the state of the command, and
//! chrootvm sends requests, signals and terminal sizes.
//!
//! Format: [`proto::control`]. The guest is not trusted: each update reads a
//! bounded amount, and a line that does not fit the state is ignored.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use files::tell::printable;
use nix::errno::Errno;
use proto::control::{Lines, ToGuest, ToHost};
use proto::settings::Size;
use proto::status;

use super::shortage::Shortage;
use super::streams::{OutputTarget, StreamEvent, Streams};
use super::workload::ReportedWorkload;
use crate::plan::exit_status::EXIT_TROUBLE;
use crate::process::wait::Awaited;

/// Exit statuses of a command that did not start (`ToHost::Failed`). If the guest reports
/// another one, the status is [`EXIT_TROUBLE`].
const FAILURES: RangeInclusive<u8> = EXIT_TROUBLE..=status::NOT_FOUND;

/// Maximum number of reads of 4 KiB from the control channel in one update.
const READS: usize = 16;

/// State of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// The guest has reported nothing yet.
    Booting,
    /// The command runs.
    Running,
    /// The command has ended with this status, and all of its output is written.
    Ended(u8),
    /// Some of the output cannot be written, although its reader is still there.
    Unwritten(Errno),
    /// The command could not be started, or `/init` failed to serve it: exit status and
    /// reason.
    Failed(u8, String),
    /// The guest's end of the control channel was closed.
    Lost,
}

/// Times since the start of the guest's kernel, by the guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartTimes {
    /// Start of `/init`.
    pub init: Duration,
    /// Start of the command.
    pub command: Duration,
}

/// A session.
#[derive(Debug)]
pub struct CommandSession {
    control: UnixStream,
    open: bool,
    lines: Lines,
    streams: Streams,
    state: SessionState,
    started: Option<StartTimes>,
    /// Time at which the guest has reported the start, by the clock of the host.
    since: Option<Instant>,
    /// State of the workload that the guest supervises.
    workload: Option<ReportedWorkload>,
    /// Message that the machine waits for its orders, until somebody takes it.
    ready: Option<ToHost>,
    /// Lack of memory in the guest.
    shortage: Shortage,
    /// Exit status, and the number of bytes of output and error that belong to it.
    ending: Option<(u8, [u64; 2])>,
    /// Bytes for the guest that the control channel has not taken yet.
    unsent: VecDeque<u8>,
    /// Whether the guest was told that nobody reads output or error.
    closed: [bool; 2],
    escaped: bool,
    foreground: bool,
}

impl CommandSession {
    /// Starts a session on chrootvm's ends of `channels`, in the order of
    /// [`crate::plan::ports::STREAMS`].
    ///
    /// # Errors
    /// The streams cannot be started.
    pub fn start(channels: [OwnedFd; 4], is_terminal: bool) -> Result<Self> {
        let [control, ports @ ..] = channels;
        Self::with(control, Streams::start(ports, is_terminal)?)
    }

    /// Like [`CommandSession::start`] without a terminal, but output and error go to `targets`.
    ///
    /// # Errors
    /// As [`CommandSession::start`].
    pub fn start_to(channels: [OwnedFd; 4], targets: [Box<dyn OutputTarget>; 2]) -> Result<Self> {
        let [control, ports @ ..] = channels;
        Self::with(control, Streams::start_to(ports, false, targets)?)
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
            state: SessionState::Booting,
            started: None,
            since: None,
            workload: None,
            ready: None,
            shortage: Shortage::default(),
            ending: None,
            unsent: VecDeque::new(),
            closed: [false; 2],
            escaped: false,
            foreground: false,
        })
    }

    /// State of the session.
    #[must_use]
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// Times at which `/init` and the command began; `None` if the command has not begun.
    #[must_use]
    pub fn started(&self) -> Option<StartTimes> {
        self.started
    }

    /// Start of the command by the clock of the host; `None` if it has not begun.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// The workload of session 0, which the guest supervises; `None` if it has reported none.
    #[must_use]
    pub fn workload(&self) -> Option<&ReportedWorkload> {
        self.workload.as_ref()
    }

    /// Whether the machine has said since the last call that it waits for its orders, and has
    /// said nothing since.
    pub fn take_ready(&mut self) -> bool {
        self.ready.take().is_some() && self.state == SessionState::Booting
    }

    /// Lack of memory that the guest has reported.
    #[must_use]
    pub fn shortage(&self) -> &Shortage {
        &self.shortage
    }

    /// Whether the user has typed the escape sequence ([`super::escape`]).
    #[must_use]
    pub fn was_escaped(&self) -> bool {
        self.escaped
    }

    /// Whether chrootvm has returned to the foreground of its terminal since the last call.
    pub fn take_foreground(&mut self) -> bool {
        std::mem::take(&mut self.foreground)
    }

    /// Whether the command has ended, but not all of its output is written yet.
    #[must_use]
    pub fn is_delivering(&self) -> bool {
        self.ending.is_some() && self.state == SessionState::Running
    }

    /// Error because of which output cannot be written; `None` also if only its reader is gone.
    fn write_error(&self) -> Option<Errno> {
        let mut errors = self.streams.deliveries.iter().filter_map(|delivery| delivery.broken());
        errors.find(|errno| *errno != Errno::EPIPE)
    }

    /// Descriptors to wait for before the next [`CommandSession::update`].
    #[must_use]
    pub fn awaited(&self) -> Vec<Awaited<'_>> {
        let fd = self.control.as_fd();
        let control = match self.unsent.is_empty() {
            true => Awaited::readable(fd),
            false => Awaited::readable_or_writable(fd),
        };
        let control = self.open.then_some(control);
        control.into_iter().chain([Awaited::readable(self.streams.fd())]).collect()
    }

    /// Handles everything that has happened since the last call.
    pub fn update(&mut self) {
        let events = self.streams.events();
        self.escaped |= events.contains(&StreamEvent::Escaped);
        self.foreground |= events.contains(&StreamEvent::Foreground);
        self.read();
        for at in 0..2 {
            if !self.closed[at] && self.streams.deliveries[at].broken().is_some() {
                self.closed[at] = true;
                self.send(ToGuest::Close(if at == 0 { 1 } else { 2 }));
            }
        }
        self.flush();
        if matches!(self.state, SessionState::Booting | SessionState::Running) {
            self.conclude();
        }
    }

    /// Ends the session once the command has ended and every byte of its output was written.
    fn conclude(&mut self) {
        // Ask for the end first: a delivery stores its error and its number of bytes before
        // its end.
        let has_ended = self.streams.deliveries.iter().all(|delivery| delivery.has_ended());
        if let Some(errno) = self.write_error() {
            self.state = SessionState::Unwritten(errno);
            return;
        }
        let Some((status, expected)) = self.ending else { return };
        let mut pairs = self.streams.deliveries.iter().zip(expected);
        let is_complete = pairs.all(|(delivery, expected)| delivery.bytes() >= expected);
        if has_ended {
            self.state = if is_complete { SessionState::Ended(status) } else { SessionState::Lost };
        } else if is_complete {
            self.streams.finish();
        }
    }

    /// Sends a message to the guest.
    pub fn send(&mut self, message: ToGuest) {
        self.send_bytes(message.to_string().as_bytes());
    }

    /// Asks the guest to run a command; `records` are those of
    /// [`proto::settings`].
    pub fn request(&mut self, records: &[u8]) {
        self.send(ToGuest::Command(records.len()));
        self.send_bytes(records);
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        self.flush();
    }

    /// Starts to write the output, which is held back until the line about the boot is erased,
    /// and the terminal of the command is raw.
    pub fn show_output(&mut self) {
        self.streams.show();
    }

    /// Sends a signal to the command.
    pub fn signal(&mut self, signal: nix::sys::signal::Signal) {
        self.send(ToGuest::Signal(signal as u8));
    }

    /// Tells the command the new size of its terminal.
    pub fn resize(&mut self, size: Size) {
        self.send(ToGuest::Resize(size));
    }

    /// Reads a bounded amount from the control channel, because a guest can send without end.
    /// The rest makes the descriptor readable again.
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
                Some(ready @ ToHost::Ready) if self.state == SessionState::Booting => {
                    self.ready = Some(ready);
                }
                Some(ToHost::Started { init, now }) if self.state == SessionState::Booting => {
                    self.state = SessionState::Running;
                    self.started = Some(StartTimes { init, command: now });
                    self.since = Some(Instant::now());
                    self.streams.opened();
                }
                Some(ToHost::Workload(state)) => {
                    let next = ReportedWorkload::after(self.workload, state, Instant::now());
                    self.workload = Some(next);
                }
                Some(ToHost::Killed(count)) => self.shortage.killed = count,
                Some(ToHost::Full(full)) => self.shortage.add_full(full),
                // Ignore the exit status of a command that has not started.
                Some(ToHost::Exited { status, output, error })
                    if self.state == SessionState::Running =>
                {
                    self.ending.get_or_insert((status, [output, error]));
                }
                // This may also arrive while the command runs: the process of `/init` that
                // serves it can die.
                Some(ToHost::Failed { status, message }) if self.ending.is_none() => {
                    let status = if FAILURES.contains(&status) { status } else { EXIT_TROUBLE };
                    self.state = SessionState::Failed(status, printable(&message));
                }
                // A guest may send anything.
                _ => {}
            }
        }
    }

    fn lose(&mut self) {
        self.open = false;
        if self.ending.is_none()
            && matches!(self.state, SessionState::Booting | SessionState::Running)
        {
            self.state = SessionState::Lost;
        }
    }

    fn flush(&mut self) {
        while self.open && !self.unsent.is_empty() {
            let (bytes, _) = self.unsent.as_slices();
            match self.control.write(bytes) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The channel is full, or closed; reading finds out that it is closed.
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
