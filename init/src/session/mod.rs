//! A command that the host drives: its streams, its terminal, its status.
//!
//! Each stream is a virtio-serial port (`virtinit.0.stdin` and so on), and so is
//! the control channel beside them ([`virtinitrd_proto::control`]). The command itself has pipes,
//! or a pseudo-terminal: a port can be opened only once, and `/dev/stderr` must
//! work.

pub mod pump;
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
use virtinitrd_proto::port::port_name;
use virtinitrd_proto::settings::{Request, Size};

use self::pump::Pump;
use self::spawn::{Failure, Stdio};
use self::user::User;
use crate::error::{Context, Error, Hints};
use crate::ports::{self, Ports};
use crate::{children, orders, rt};

/// Standard output's place among the pumps, and its number in `close`.
const OUTPUT: usize = 1;
/// The same of standard error.
const ERROR: usize = 2;

/// How long control data may take to be taken by the host.
const PATIENCE: Duration = Duration::from_secs(10);

const PORT_HINTS: Hints = &[
    (Some(Errno::NOENT), "no such virtio-serial port; the module virtio_console must be packed"),
    (Some(Errno::AGAIN), "the host is not connected to it"),
];

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
    pumps: [Option<Pump>; 3],
}

impl Session {
    /// Opens the control channel, for which is waited for up to `limit`.
    pub fn open(ports: &Ports, number: u32, limit: Duration) -> Result<Self, Error> {
        let control = open_port(ports, number, "control", limit)?;
        let (lines, pumps) = (Lines::default(), [None, None, None]);
        Ok(Self { number, control, lines, child: None, terminal: None, pumps })
    }

    /// Waits for the text of a request, which the control channel brings.
    pub fn receive_request(&mut self) -> Result<Vec<u8>, Errno> {
        let length = loop {
            match self.next_message() {
                Some(ToGuest::Request(length)) => break length,
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
        ports: &Ports,
        user: &User<'_>,
        terminal: Option<Size>,
        limit: Duration,
    ) -> Result<Stdio, Error> {
        let open = |stream| open_port(ports, self.number, stream, limit);
        let output = open("stdout")?;
        // After standard output, whose port is the later one.
        let name = port_name(self.number, "stdin");
        let input = ports.open_input(name.as_bytes(), limit);
        let input = input.hinted(format_args!("open port {name}"), PORT_HINTS)?;
        if let Some(size) = terminal {
            let made = stdio::terminal(ports, user, size);
            let (stdio, master) = made.context(format_args!("make a pseudo-terminal"))?;
            self.pumps = [
                Some(Pump::to_terminal(input, master.to)),
                Some(Pump::new(master.from, output)),
                None,
            ];
            self.terminal = Some(master.control);
            return Ok(stdio);
        }
        let error = open("stderr")?;
        let (stdio, ours) = stdio::pipes(user).context(format_args!("make pipes"))?;
        self.pumps = [
            Some(Pump::new(input, ours.input)),
            Some(Pump::splice(ours.output, output)),
            Some(Pump::splice(ours.error, error)),
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

    /// Starts the command of `request`.
    pub fn start(
        &mut self,
        ports: &Ports,
        request: &Request<'_>,
        limit: Duration,
    ) -> Result<(), Failure> {
        user::look_up(request.user, &mut |user| {
            let stdio = self.prepare(ports, user, request.terminal, limit);
            self.child = Some(spawn::spawn(request, user, stdio.map_err(Failure::trouble)?)?);
            Ok(())
        })
    }

    /// Lets go of the streams, which another process serves.
    pub fn close_streams(&mut self) {
        (self.pumps, self.terminal) = ([None, None, None], None);
    }

    /// Waits until something happens, `limit` at the most, and moves what can be
    /// moved. False where the host has gone.
    pub fn step(&mut self, signals: &OwnedFd, limit: Option<Duration>) -> Result<bool, Errno> {
        // Where a pump waits for nothing, for nothing is waited in its place.
        let nothing = PollFd::new(signals, PollFlags::empty());
        let [input, output, error] = self
            .pumps
            .each_ref()
            .map(|pump| pump.as_ref().and_then(Pump::interest).unwrap_or(nothing.clone()));
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
        for (pump, events) in self.pumps.iter_mut().zip(events) {
            if let Some(pump) = pump.as_mut().filter(|pump| pump.interest().is_some()) {
                pump.step(events);
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
    pub fn obey(&mut self) -> Option<u32> {
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
                    if let Some(Some(pump)) = self.pumps.get_mut(usize::from(stream)) {
                        pump.close();
                    }
                }
                ToGuest::Session(number) => return Some(number),
                ToGuest::Request(_) => {}
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
        let pumps = self.pumps.get(OUTPUT..).unwrap_or_default().iter().flatten();
        pumps.into_iter().all(|pump| pump.is_done() || (!pump.is_full() && is_empty(pump)))
    }

    /// Whether the ends of all outputs were seen.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.pumps.get(OUTPUT..).unwrap_or_default().iter().flatten().all(Pump::is_done)
    }

    /// Tells the host that the command runs.
    pub fn report_start(&self, init: Duration) -> Result<(), Errno> {
        self.send(&ToHost::Started { init, now: rt::process::uptime() })
    }

    /// Tells the host how the command has ended. Where some of its output was
    /// lost that is trouble, whatever the command thinks.
    pub fn report_end(&self, status: u8) -> Result<(), Errno> {
        let has_lost = self.pumps.iter().flatten().any(Pump::has_lost);
        let status = if has_lost { spawn::TROUBLE } else { status };
        let total = |at: usize| self.pumps.get(at).and_then(Option::as_ref).map_or(0, Pump::total);
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
        while ports::is_connected(&self.control).unwrap_or(false) {
            let mut fds = [PollFd::new(&self.control, PollFlags::empty())];
            // Interrupted or not, it is looked at again.
            let _ = poll(&mut fds, None);
        }
    }
}

/// Exit status as a shell has it.
#[must_use]
pub fn shell_status(status: WaitStatus) -> u8 {
    code_or_signal(status.exit_status(), status.terminating_signal())
}

fn code_or_signal(code: Option<i32>, signal: Option<i32>) -> u8 {
    const SIGNALLED: i32 = 128;
    let status = code.or(signal.map(|number| SIGNALLED + number));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(spawn::TROUBLE)
}

fn open_port(ports: &Ports, number: u32, stream: &str, limit: Duration) -> Result<OwnedFd, Error> {
    let name = port_name(number, stream);
    ports.open(name.as_bytes(), limit).hinted(format_args!("open port {name}"), PORT_HINTS)
}

fn is_empty(pump: &Pump) -> bool {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let Some(fd) = pump.interest() else { return true };
    poll(&mut [fd], Some(&NOW)) == Ok(0)
}

/// As poll(2) takes it.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_a_shells() {
        for (code, signal, status) in
            [(Some(0), None, 0), (Some(255), None, 255), (None, Some(9), 137), (None, None, 125)]
        {
            assert_eq!(code_or_signal(code, signal), status);
        }
    }
}
