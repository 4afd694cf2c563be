//! A session: a command of the host with its streams, its terminal and its status.
//!
//! Each stream is a channel to the host, and so is the control channel
//! ([`proto::control`]). The command itself gets pipes or a pseudo-terminal,
//! because a port can be opened only once, but `/dev/stderr` must be openable again.
//!
//! The files here know nothing of other sessions; `super::host` serves several. They
//! import `orders`, `payload` and `interpreter` of the room `run`, and the rooms that `run`
//! imports.

pub mod failure;
pub mod relay;
pub mod shortage;
pub mod spawn;
pub mod stdio;
pub mod user;

use alloc::vec::Vec;
use core::time::Duration;

use proto::control::{Lines, ToGuest, ToHost};
use proto::settings::Size;
use proto::status::TROUBLE;
use proto::workload::WorkloadState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::system::RebootCommand;

use self::failure::Failure;
use self::relay::Relay;
use self::stdio::{ChildEnds, ProcessSession};
use self::user::User;
use crate::rt;
use crate::run::orders;
use crate::sys::devices::Devices;
use crate::sys::error::{Context, Error};
use crate::sys::wait::timespec;
use crate::transport::channels;

/// Index of standard output among the relays, and its number in `close`.
const OUTPUT: usize = 1;
/// Index of standard error among the relays, and its number in `close`.
const ERROR: usize = 2;

/// Most bytes of orders: a command, the settings of the machine, and words for the kernel.
const ORDERS_MAX: usize = 2 * proto::settings::MAX;

/// Time limit for the host to read or send control data.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether output is still on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The streams are at their end.
    Finished,
    /// All that was written is delivered, but a process holds a stream.
    Drained,
    /// More is to be delivered.
    Waiting,
}

/// A running session.
#[derive(Debug)]
pub struct Session {
    number: u32,
    control: OwnedFd,
    lines: Lines,
    /// Our end of the command's terminal, to set its size.
    terminal: Option<OwnedFd>,
    /// Ends from which each command of the session gets its streams.
    ends: Option<ChildEnds>,
    /// Relays of standard input, output and error.
    relays: [Option<Relay>; 3],
    /// Number of processes that the kernel had killed for lack of memory before the session.
    killed_before: u64,
}

impl Session {
    /// Opens the control channel of session `number`; waits for it up to `limit`.
    pub fn open(devices: &Devices, number: u32, limit: Duration) -> Result<Self, Error> {
        let control = channels::open(devices, number, "control", limit)?;
        let (lines, relays, terminal, ends) = (Lines::default(), [None, None, None], None, None);
        Ok(Self { number, control, lines, terminal, ends, relays, killed_before: 0 })
    }

    /// Tells the host that the machine is ready, and waits for its orders without a limit.
    pub fn receive_orders(&mut self) -> Result<Vec<u8>, Errno> {
        self.send(&ToHost::Ready)?;
        let mut fds = [PollFd::new(&self.control, PollFlags::IN)];
        while poll(&mut fds, None) == Err(Errno::INTR) {}
        self.receive_records(ORDERS_MAX)
    }

    /// Waits for the records of a command on the control channel.
    pub fn receive_command(&mut self) -> Result<Vec<u8>, Errno> {
        self.receive_records(proto::settings::MAX)
    }

    /// Waits for at most `most` bytes of records.
    fn receive_records(&mut self, most: usize) -> Result<Vec<u8>, Errno> {
        let length = loop {
            match self.next_message() {
                Some(ToGuest::Command(length)) => break length,
                Some(_) => {}
                None => self.receive()?,
            }
        };
        if length > most {
            return Err(Errno::TOOBIG);
        }
        let mut text = self.lines.take_rest();
        let mut chunk = [0; 4096];
        while text.len() < length {
            self.wait_for(PollFlags::IN)?;
            match rustix::io::read(&self.control, &mut chunk) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(count) => text.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        // A message may follow the records.
        self.lines.push(&text.split_off(length));
        Ok(text)
    }

    /// Opens the streams of the session, and connects them with the channels by relays. With a
    /// size, they become a terminal.
    pub fn open_streams(
        &mut self,
        devices: &Devices,
        terminal: Option<Size>,
        limit: Duration,
    ) -> Result<(), Error> {
        self.killed_before = shortage::killed();
        let open = |stream| channels::open(devices, self.number, stream, limit);
        let output = open("stdout")?;
        // Standard output first: its port is later than that of standard input.
        let input = channels::open_input(devices, self.number, limit)?;
        if let Some(size) = terminal {
            let made = stdio::terminal(devices, size);
            let (ends, master) = made.context(format_args!("make a pseudo-terminal"))?;
            self.relays = [
                Some(Relay::to_terminal(input, master.to)),
                Some(Relay::new(master.from, output)),
                None,
            ];
            (self.terminal, self.ends) = (Some(master.control), Some(ends));
            return Ok(());
        }
        let error = open("stderr")?;
        let (ends, ours) = stdio::pipes().context(format_args!("make pipes"))?;
        self.relays = [
            Some(Relay::new(input, ours.input)),
            Some(Relay::splice(ours.output, output)),
            Some(Relay::splice(ours.error, error)),
        ];
        self.ends = Some(ends);
        Ok(())
    }

    /// Gives this process, which will be one of `user`, the streams of the session.
    pub fn take_streams(&self, user: &User<'_>) -> Result<ProcessSession, Errno> {
        self.ends.as_ref().ok_or(Errno::BADF)?.take(user)
    }

    /// No further command starts in this session, so its streams end with the one that runs.
    pub fn close_ends(&mut self) {
        self.ends = None;
    }

    /// Closes the streams, which another process serves.
    pub fn close_streams(&mut self) {
        (self.relays, self.terminal, self.ends) = ([None, None, None], None, None);
    }

    /// Waits for a signal, a message of the host, or `other`, at most for `limit`, and relays all
    /// data that can be relayed. Returns an order to end the machine, which a program of the
    /// guest has sent to PID 1.
    ///
    /// # Errors
    /// EPIPE: the host has closed its end.
    pub fn step(
        &mut self,
        signals: &OwnedFd,
        other: Option<&OwnedFd>,
        limit: Option<Duration>,
    ) -> Result<Option<RebootCommand>, Errno> {
        // Placeholder entry for an idle relay.
        let idle = PollFd::new(signals, PollFlags::empty());
        let [input, output, error] = self
            .relays
            .each_ref()
            .map(|relay| relay.as_ref().and_then(Relay::interest).unwrap_or(idle.clone()));
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
            input,
            output,
            error,
            other.map_or(idle, |fd| PollFd::new(fd, PollFlags::IN)),
        ];
        match poll(&mut fds, limit.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let [signalled, controlled, events @ .., _] = fds.map(|fd| fd.revents());
        // wait(2) finds the children that have ended.
        let order = if signalled.is_empty() { None } else { orders::take(signals) };
        for (relay, events) in self.relays.iter_mut().zip(events) {
            if let Some(relay) = relay.as_mut().filter(|relay| relay.interest().is_some()) {
                relay.step(events);
            }
        }
        match controlled.is_empty() || self.read_control() {
            true => Ok(order),
            false => Err(Errno::PIPE),
        }
    }

    /// Handles all messages of the host up to one that is not for the streams alone, and returns
    /// that one.
    pub fn handle_messages(&mut self) -> Option<ToGuest> {
        while let Some(message) = self.next_message() {
            match message {
                ToGuest::Resize(size) => {
                    // This fails if the terminal has hung up.
                    let _ = self.terminal.as_ref().map(|terminal| stdio::set_size(terminal, size));
                }
                ToGuest::Close(stream) => {
                    if let Some(Some(relay)) = self.relays.get_mut(usize::from(stream)) {
                        relay.close();
                    }
                }
                message => return Some(message),
            }
        }
        None
    }

    /// Whether output is still to be sent to the host: each pipe is at its end or, if a background
    /// process still holds it, empty.
    #[must_use]
    pub fn output(&self) -> Output {
        let relays = || self.relays.get(OUTPUT..).unwrap_or_default().iter().flatten();
        let is_drained = |relay: &Relay| relay.is_done() || (!relay.is_full() && is_empty(relay));
        match (relays().all(Relay::is_done), relays().all(is_drained)) {
            (true, _) => Output::Finished,
            (false, true) => Output::Drained,
            (false, false) => Output::Waiting,
        }
    }

    /// Reports the state of the workload to the host.
    pub fn report_state(&self, state: WorkloadState) -> Result<(), Errno> {
        self.send(&ToHost::Workload(state))
    }

    /// Reports to the host that the command runs.
    pub fn report_start(&self, init: Duration) -> Result<(), Errno> {
        self.send(&ToHost::Started { init, now: rt::process::uptime() })
    }

    /// Reports the end of the command to the host, and before that a lack of memory. If output was
    /// lost, the status is [`TROUBLE`], whatever the status of the command.
    pub fn report_end(&self, status: u8) -> Result<(), Errno> {
        let killed = shortage::killed().saturating_sub(self.killed_before);
        if killed > 0 {
            self.send(&ToHost::Killed(killed))?;
        }
        let mut sent = Ok(());
        shortage::visit_full(&mut |full| sent = sent.and(self.send(&ToHost::Full(full))));
        sent?;
        let has_lost = self.relays.iter().flatten().any(Relay::has_lost);
        let status = if has_lost { TROUBLE } else { status };
        let total =
            |at: usize| self.relays.get(at).and_then(Option::as_ref).map_or(0, Relay::total);
        self.send(&ToHost::Exited { status, output: total(OUTPUT), error: total(ERROR) })
    }

    /// Reports to the host why the command does not run.
    pub fn report_failure(&self, failure: Failure) -> Result<(), Errno> {
        let Failure { status, message } = failure;
        self.send(&ToHost::Failed { status, message: message.into_boxed_bytes().into_vec() })
    }

    /// Waits until the host closes its end, after it has read everything.
    pub fn wait_for_release(&self) {
        while channels::is_connected(&self.control) {
            let mut fds = [PollFd::new(&self.control, PollFlags::empty())];
            // After an interruption the loop checks again.
            let _ = poll(&mut fds, None);
        }
    }

    fn receive(&mut self) -> Result<(), Errno> {
        self.wait_for(PollFlags::IN)?;
        match self.read_control() {
            true => Ok(()),
            false => Err(Errno::PIPE),
        }
    }

    /// Reads control data. Returns false if the host has closed its end.
    fn read_control(&mut self) -> bool {
        let mut chunk = [0; 512];
        match rustix::io::read(&self.control, &mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.lines.push(chunk.get(..count).unwrap_or_default());
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    fn next_message(&mut self) -> Option<ToGuest> {
        while let Some(line) = self.lines.next_line() {
            if let Some(message) = ToGuest::parse(&line) {
                return Some(message);
            }
        }
        None
    }

    fn send(&self, message: &ToHost) -> Result<(), Errno> {
        let line = message.to_line();
        let mut rest = &line[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.control, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait_for(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn wait_for(&self, flags: PollFlags) -> Result<(), Errno> {
        let mut fds = [PollFd::new(&self.control, flags)];
        match poll(&mut fds, Some(&timespec(PATIENCE))) {
            Ok(0) => Err(Errno::TIMEDOUT),
            Ok(_) | Err(Errno::INTR) => {
                let is_closed = fds.iter().any(|fd| fd.revents() == PollFlags::HUP);
                if is_closed { Err(Errno::PIPE) } else { Ok(()) }
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Whether nothing waits in the source of `relay`.
fn is_empty(relay: &Relay) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let Some(fd) = relay.interest() else { return true };
    poll(&mut [fd], Some(&NOW)) == Ok(0)
}
