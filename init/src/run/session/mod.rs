//! A command that the host drives: its streams, its terminal, its status.
//!
//! Each stream is a virtio-serial port (`virtinit.0.stdin` and so on), and so is
//! the control channel beside them ([`virtinitrd_proto::control`]). The command itself has pipes,
//! or a pseudo-terminal: a port can be opened only once, and `/dev/stderr` must
//! work.

pub mod failure;
pub mod relay;
pub mod spawn;
pub mod stdio;
pub mod user;

use alloc::vec::Vec;
use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};
use virtinitrd_proto::control::{Lines, ToGuest, ToHost};
use virtinitrd_proto::settings::{Command, Size};
use virtinitrd_proto::status::TROUBLE;

use self::failure::Failure;
use self::relay::Relay;
use self::stdio::Stdio;
use self::user::User;
use crate::rt;
use crate::run::orders;
use crate::sys::children;
use crate::sys::devices::Devices;
use crate::sys::error::{Context, Error};
use crate::sys::wait::timespec;
use crate::transport::channels;

/// Standard output's place among the relays, and its number in `close`.
const OUTPUT: usize = 1;
/// The same of standard error.
const ERROR: usize = 2;

/// How long control data may take to be taken by the host.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session under way.
#[derive(Debug)]
pub struct Session {
    number: u32,
    control: OwnedFd,
    lines: Lines,
    /// The command, or what is left of its process group.
    child: Option<Pid>,
    /// The command's terminal.
    terminal: Option<OwnedFd>,
    /// Standard input, output and error.
    relays: [Option<Relay>; 3],
}

impl Session {
    /// Opens the control channel, for which is waited for up to `limit`.
    pub fn open(devices: &Devices, number: u32, limit: Duration) -> Result<Self, Error> {
        let control = channels::open(devices, number, "control", limit)?;
        let (lines, relays) = (Lines::default(), [None, None, None]);
        Ok(Self { number, control, lines, child: None, terminal: None, relays })
    }

    /// Waits for the text of a command, which the control channel brings.
    pub fn receive_command(&mut self) -> Result<Vec<u8>, Errno> {
        let length = loop {
            match self.next_message() {
                Some(ToGuest::Command(length)) => break length,
                Some(_) => {}
                None => self.receive()?,
            }
        };
        if length > virtinitrd_proto::settings::MAX {
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
        Ok(text)
    }

    /// Connects the ports with what the command is given.
    fn prepare(
        &mut self,
        devices: &Devices,
        user: &User<'_>,
        terminal: Option<Size>,
        limit: Duration,
    ) -> Result<Stdio, Error> {
        let open = |stream| channels::open(devices, self.number, stream, limit);
        let output = open("stdout")?;
        // After standard output, whose port is the later one.
        let input = channels::open_input(devices, self.number, limit)?;
        if let Some(size) = terminal {
            let made = stdio::terminal(devices, user, size);
            let (stdio, master) = made.context(format_args!("make a pseudo-terminal"))?;
            self.relays = [
                Some(Relay::to_terminal(input, master.to)),
                Some(Relay::new(master.from, output)),
                None,
            ];
            self.terminal = Some(master.control);
            return Ok(stdio);
        }
        let error = open("stderr")?;
        let (stdio, ours) = stdio::pipes(user).context(format_args!("make pipes"))?;
        self.relays = [
            Some(Relay::new(input, ours.input)),
            Some(Relay::splice(ours.output, output)),
            Some(Relay::splice(ours.error, error)),
        ];
        Ok(stdio)
    }

    fn receive(&mut self) -> Result<(), Errno> {
        self.wait_for(PollFlags::IN)?;
        match self.read_control() {
            true => Ok(()),
            false => Err(Errno::PIPE),
        }
    }

    /// Starts the command of `command`.
    pub fn start(
        &mut self,
        devices: &Devices,
        command: &Command<'_>,
        limit: Duration,
    ) -> Result<(), Failure> {
        user::look_up(command.user, &mut |user| {
            let stdio = self.prepare(devices, user, command.terminal, limit);
            self.child = Some(spawn::spawn(command, user, stdio.map_err(Failure::trouble)?)?);
            Ok(())
        })
    }

    /// Lets go of the streams, which another process serves.
    pub fn close_streams(&mut self) {
        (self.relays, self.terminal) = ([None, None, None], None);
    }

    /// Waits until something happens, `limit` at the most, and moves what can be
    /// moved. False where the host has gone.
    pub fn step(&mut self, signals: &OwnedFd, limit: Option<Duration>) -> Result<bool, Errno> {
        // Where a relay waits for nothing, for nothing is waited in its place.
        let nothing = PollFd::new(signals, PollFlags::empty());
        let [input, output, error] = self
            .relays
            .each_ref()
            .map(|relay| relay.as_ref().and_then(Relay::interest).unwrap_or(nothing.clone()));
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&self.control, PollFlags::IN),
            input,
            output,
            error,
        ];
        match poll(&mut fds, limit.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let [signalled, controlled, events @ ..] = fds.map(|fd| fd.revents());
        if !signalled.is_empty() {
            // Only that there was a signal counts; who has ended, wait(2) tells.
            orders::take(signals);
        }
        for (relay, events) in self.relays.iter_mut().zip(events) {
            if let Some(relay) = relay.as_mut().filter(|relay| relay.interest().is_some()) {
                relay.step(events);
            }
        }
        Ok(controlled.is_empty() || self.read_control())
    }

    /// Takes in what the host has said. False where it has gone.
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

    /// Does what the host has said, up to a message that is not for this session
    /// alone: the number of one to be started.
    pub fn handle_messages(&mut self) -> Option<u32> {
        while let Some(message) = self.next_message() {
            match message {
                ToGuest::Resize(size) => {
                    // A terminal that has hung up has no size.
                    let _ = self.terminal.as_ref().map(|terminal| stdio::set_size(terminal, size));
                }
                ToGuest::Signal(number) => {
                    if let Some(signal) = Signal::from_named_raw(number.into()) {
                        self.signal(signal);
                    }
                }
                ToGuest::Close(stream) => {
                    if let Some(Some(relay)) = self.relays.get_mut(usize::from(stream)) {
                        relay.close();
                    }
                }
                ToGuest::Session(number) => return Some(number),
                ToGuest::Command(_) => {}
            }
        }
        None
    }

    fn next_message(&mut self) -> Option<ToGuest> {
        while let Some(line) = self.lines.next_line() {
            if let Some(message) = ToGuest::parse(&line) {
                return Some(message);
            }
        }
        None
    }

    /// Sends a signal to the command and its process group.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = self.child {
            // It may have ended.
            let _ = rustix::process::kill_process_group(child, signal);
        }
    }

    /// Reaps every child that has ended; the command's status, if it was among
    /// them. False where no child is left. Of the others `other` hears.
    pub fn reap(&self, other: &mut dyn FnMut(Pid, WaitStatus)) -> (Option<WaitStatus>, bool) {
        children::reap(self.child, other)
    }

    /// Whether all output is with the host: nothing can come any more, or, where
    /// somebody else still holds the pipe, nothing is in it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let relays = self.relays.get(OUTPUT..).unwrap_or_default().iter().flatten();
        relays.into_iter().all(|relay| relay.is_done() || (!relay.is_full() && is_empty(relay)))
    }

    /// Whether the ends of all outputs were seen.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.relays.get(OUTPUT..).unwrap_or_default().iter().flatten().all(Relay::is_done)
    }

    /// Tells the host that the command runs.
    pub fn report_start(&self, init: Duration) -> Result<(), Errno> {
        self.send(&ToHost::Started { init, now: rt::process::uptime() })
    }

    /// Tells the host how the command has ended. Where some of its output was
    /// lost that is trouble, whatever the command thinks.
    pub fn report_end(&self, status: u8) -> Result<(), Errno> {
        let has_lost = self.relays.iter().flatten().any(Relay::has_lost);
        let status = if has_lost { TROUBLE } else { status };
        let total =
            |at: usize| self.relays.get(at).and_then(Option::as_ref).map_or(0, Relay::total);
        self.send(&ToHost::Exited { status, output: total(OUTPUT), error: total(ERROR) })
    }

    /// Tells the host why the command does not run.
    pub fn report_failure(&self, failure: Failure) -> Result<(), Errno> {
        let Failure { status, message } = failure;
        self.send(&ToHost::Failed { status, message: message.into_boxed_bytes().into_vec() })
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
                let gone = fds.iter().any(|fd| fd.revents() == PollFlags::HUP);
                if gone { Err(Errno::PIPE) } else { Ok(()) }
            }
            Err(errno) => Err(errno),
        }
    }

    /// Waits until the host closes its end: it has all it wanted.
    pub fn wait_for_release(&self) {
        while channels::is_connected(&self.control) {
            let mut fds = [PollFd::new(&self.control, PollFlags::empty())];
            // Interrupted or not, it is looked at again.
            let _ = poll(&mut fds, None);
        }
    }
}

fn is_empty(relay: &Relay) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let Some(fd) = relay.interest() else { return true };
    poll(&mut [fd], Some(&NOW)) == Ok(0)
}
