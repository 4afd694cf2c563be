//! The host's side of a session: what `init::session` talks to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use virtinitrd_init::session::control::{Lines, ToGuest, ToHost};
use virtinitrd_init::session::port_name;
use virtinitrd_init::settings::Size;

use super::console::printable;
use super::streams::{Event, Streams};

/// The streams of a session, in the order in which their ports are made.
pub const STREAMS: [&str; 4] = ["control", "stdin", "stdout", "stderr"];

/// How often an update reads the control channel at the most, 4 KiB each time.
const READS: usize = 16;

/// Both ends of a session's channels.
#[derive(Debug)]
pub struct Channels {
    ours: [OwnedFd; 4],
    /// QEMU's ends, with the names of their ports.
    pub theirs: Vec<(String, OwnedFd)>,
}

impl Channels {
    /// Makes the channels of session `number`.
    pub fn new(number: u32) -> Result<Self> {
        let mut theirs = Vec::new();
        let mut pair = |stream| {
            let (ours, qemus) = UnixStream::pair().context("make a socket")?;
            theirs.push((port_name(number, stream), qemus.into()));
            Ok::<OwnedFd, anyhow::Error>(ours.into())
        };
        let [control, stdin, stdout, stderr] = STREAMS;
        let ours = [pair(control)?, pair(stdin)?, pair(stdout)?, pair(stderr)?];
        Ok(Self { ours, theirs })
    }
}

/// What the guest has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Booting,
    /// The command runs.
    Running,
    /// It has ended, and its output is complete here.
    Ended(u8),
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
        let [control, input, output, error] = channels;
        let control = UnixStream::from(control);
        control.set_nonblocking(true)?;
        Ok(Self {
            control,
            open: true,
            lines: Lines::default(),
            streams: Streams::start([input, output, error], is_terminal)?,
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

    /// Why output cannot be written, where it is more than that nobody reads it.
    #[must_use]
    pub fn write_error(&self) -> Option<Errno> {
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
        let Some((status, expected)) = self.ending else { return };
        // Asked first: what was delivered before the end counts.
        let has_ended = self.streams.deliveries.iter().all(|delivery| delivery.has_ended());
        let mut pairs = self.streams.deliveries.iter().zip(expected);
        if pairs.all(|(delivery, expected)| delivery.bytes() >= expected) {
            self.state = State::Ended(status);
        } else if has_ended {
            self.state = State::Lost;
        }
    }

    /// Says something to the guest.
    pub fn say(&mut self, message: ToGuest) {
        self.send(message.to_string().as_bytes());
    }

    /// Asks for a command: the records of [`virtinitrd_init::settings`].
    pub fn request(&mut self, records: &[u8]) {
        self.say(ToGuest::Request(records.len()));
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
                Some(ToHost::Exited { status, output, error }) => {
                    self.ending.get_or_insert((status, [output, error]));
                }
                // Also once it runs: who serves it in the guest may die.
                Some(ToHost::Failed { status, message }) if self.ending.is_none() => {
                    self.state = State::Failed(status, printable(&message));
                }
                // A guest may say what it likes.
                _ => {}
            }
        }
    }

    fn lose(&mut self) {
        self.open = false;
        if self.ending.is_none() && !matches!(self.state, State::Failed(..)) {
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

impl Channels {
    /// Our ends, in the order of [`STREAMS`], and QEMU's.
    #[must_use]
    pub fn split(self) -> ([OwnedFd; 4], Vec<(String, OwnedFd)>) {
        (self.ours, self.theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that says `lines` and writes `output` to its standard output.
    fn session(lines: &str, output: &[u8]) -> (Session, Vec<UnixStream>) {
        let (ours, theirs) = Channels::new(0).unwrap().split();
        let mut ends: Vec<_> = theirs.into_iter().map(|(_, fd)| UnixStream::from(fd)).collect();
        ends[0].write_all(lines.as_bytes()).unwrap();
        ends[2].write_all(output).unwrap();
        (Session::start(ours, false).unwrap(), ends)
    }

    fn wait(session: &mut Session, wanted: impl Fn(&State) -> bool) {
        for _ in 0..2000 {
            session.update();
            if wanted(session.state()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it stays {:?}", session.state());
    }

    #[test]
    fn a_status_holds_once_the_output_is_here() {
        let (mut session, mut ends) = session("started 1 2\nexited 42 2 0\n", b"");
        wait(&mut session, |state| matches!(state, State::Running));
        session.update();
        assert!(matches!(session.state(), State::Running));
        ends[2].write_all(b"\r\n").unwrap();
        wait(&mut session, |state| *state == State::Ended(42));
    }

    #[test]
    fn a_failure_and_a_lost_guest_are_told_apart() {
        let (mut session_, _ends) = session("failed 127 execute x: not found\n", b"");
        let failed = State::Failed(127, "execute x: not found".into());
        wait(&mut session_, |state| *state == failed);
        let (mut runs, _ends) = session("started 1 2\nexited 3 0 0\nfailed 0 no\n", b"");
        wait(&mut runs, |state| !matches!(state, State::Booting | State::Running));
        assert_eq!(*runs.state(), State::Ended(3));
        let (mut lost, ends) = session("nonsense\nexited\n", b"");
        drop(ends);
        wait(&mut lost, |state| *state == State::Lost);
    }

    #[test]
    fn a_guest_that_talks_without_end_is_cut_short() {
        for flood in [&b"\n"[..], b"x"] {
            let (mut session, mut ends) = session("started 1 2\n", b"");
            let mut control = ends.swap_remove(0);
            let flood = flood.repeat(64 << 10);
            let flooder = std::thread::spawn(move || while control.write_all(&flood).is_ok() {});
            wait(&mut session, |state| matches!(state, State::Running));
            for _ in 0..100 {
                session.update();
            }
            drop(session);
            flooder.join().unwrap();
        }
    }

    #[test]
    fn messages_reach_the_guest() {
        let (mut session, mut ends) = session("", b"");
        session.resize(Size { rows: 5, columns: 9 });
        session.request(b"arg=ls\0");
        let mut text = [0; 26];
        ends[0].read_exact(&mut text).unwrap();
        assert_eq!(&text, b"resize 5 9\nrequest 7\narg=l");
    }
}
