//! The host as the outside of PID 1: it has the streams of the command and learns its status, and
//! the machine ends with the command.
//!
//! Interfaces: kill(2), wait(2), sync(2). While a command of the host runs, signals to PID 1 do not
//! end the machine: scripts of packages send SIGTERM to make PID 1 execute itself again
//! (`telinit u` of systemd). Children of PID 1 serve further sessions, so that the memory of a
//! session is freed with its child.

use core::convert::Infallible;
use core::time::Duration;

use proto::control::ToGuest;
use proto::settings::{Command, STOP_TIMEOUT, Settings};
use proto::workload::WorkloadState;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};
use rustix::system::RebootCommand;

use crate::report::log;
use crate::root::attachments::extra_mounts::ExtraMounts;
use crate::rt;
use crate::rt::process::uptime;
use crate::run::orders;
use crate::run::session::failure::Failure;
use crate::run::session::stdio::ProcessSession;
use crate::run::session::user::User;
use crate::run::session::{Output, Session};
use crate::run::workload::check::Check;
use crate::run::workload::outside::{Heard, Order, Outside};
use crate::run::workload::supervise;
use crate::sys::children;
use crate::sys::devices::Devices;
use crate::sys::error::{Context, Error, Result, sys_error};
use crate::sys::file;

/// Time limit for the processes that a command of the host leaves, to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Time limit of the wait for the ports of a further session.
const PORT_LIMIT: Duration = Duration::from_secs(5);

/// Most further sessions at a time. A virtio-serial device has no ports for more.
const SERVERS: usize = 7;

/// The run of the first session.
#[derive(Debug)]
pub struct HostedRun<'a> {
    /// The command.
    pub command: &'a Command<'a>,
    /// The session, if the host has been told that the machine is ready.
    pub session: Option<Session>,
    /// The settings of the machine.
    pub settings: &'a Settings<'a>,
    /// Mounts to unmount at the end.
    pub mounts: &'a ExtraMounts<'a>,
    /// Time since the kernel's start at which `/init` began.
    pub began: Duration,
}

/// Runs the command and reports its status to the host. The wait for a port takes at most `limit`.
/// Then the machine ends.
///
/// # Errors
/// The host cannot be reached.
pub fn run(run: HostedRun<'_>, devices: Option<&Devices>, limit: Duration) -> Result<Infallible> {
    let HostedRun { command, session, settings, mounts, began } = run;
    let devices = devices.ok_or_else(|| Error::new(format_args!("no ports"), "see above"))?;
    let signals = orders::signals()?;
    let session = match session {
        Some(session) => session,
        None => Session::open(devices, 0, limit)?,
    };
    let mut host = Host::new(session, &signals, devices, began);
    host.is_workload = settings.workload;
    let grace = Some(if settings.workload { STOP_TIMEOUT } else { GRACE });
    let served = host.run(command, grace, limit, &|| mounts.sync_and_unmount());
    served.context(format_args!("tell the host"))?;
    if !settings.alone {
        host.session.wait_for_release();
    }
    orders::carry_out(RebootCommand::PowerOff)
}

/// Serves session `number` from its request to its end. Processes that the command leaves in the
/// background go on, but nobody reads their output.
fn serve_session(devices: &Devices, signals: &OwnedFd, number: u32) -> Result<(), Errno> {
    let began = uptime();
    let session = Session::open(devices, number, PORT_LIMIT).map_err(|error| {
        log::warn!("{error}");
        Errno::NOENT
    })?;
    let mut host = Host::new(session, signals, devices, began);
    let text = host.session.receive_command()?;
    match Settings::parse(&text) {
        Err(error) => host.session.report_failure(Failure::trouble(error))?,
        Ok(settings) => host.run(&settings.command, None, PORT_LIMIT, &|| ())?,
    }
    host.session.wait_for_release();
    Ok(())
}

/// The host of one session.
#[derive(Debug)]
struct Host<'a> {
    session: Session,
    signals: &'a OwnedFd,
    devices: &'a Devices,
    /// Whether the command is a workload.
    is_workload: bool,
    /// Number of the signal that the command gets instead of SIGTERM.
    stop_signal: Option<u8>,
    began: Duration,
    /// Whether the host knows that the first process has started.
    has_started: bool,
    /// Processes that serve further sessions, and the numbers of these.
    servers: [Option<(Pid, u32)>; SERVERS],
}

impl<'a> Host<'a> {
    fn new(session: Session, signals: &'a OwnedFd, devices: &'a Devices, began: Duration) -> Self {
        let (is_workload, stop_signal, has_started) = (false, None, false);
        let servers = [None; SERVERS];
        Self { session, signals, devices, is_workload, stop_signal, began, has_started, servers }
    }

    /// Runs `command`, and reports its status after its output and after `finish`.
    fn run(
        &mut self,
        command: &Command<'_>,
        grace: Option<Duration>,
        limit: Duration,
        finish: &dyn Fn(),
    ) -> Result<(), Errno> {
        self.stop_signal = command.stop_signal;
        let opened = self.session.open_streams(self.devices, command.terminal, limit);
        let ended = opened.map_err(Failure::trouble).and_then(|()| supervise(command, self, grace));
        match ended {
            Err(failure) => self.session.report_failure(failure),
            Ok((_, status)) => {
                while self.session.output() == Output::Waiting {
                    self.session.step(self.signals, None, None)?;
                }
                finish();
                self.session.report_end(status)
            }
        }
    }

    /// Handles messages of the host up to one for the command.
    fn hear(&mut self) -> Option<Heard> {
        while let Some(message) = self.session.handle_messages() {
            match message {
                ToGuest::Session(number) => self.serve(number),
                ToGuest::Signal(number) => {
                    let heard = self.meaning_of(number);
                    if heard.is_some() {
                        return heard;
                    }
                }
                ToGuest::Restart if self.is_workload => return Some(Heard::Order(Order::Restart)),
                _ => {}
            }
        }
        None
    }

    /// What a signal of the host means: those that end a program end a workload for good.
    fn meaning_of(&self, number: u8) -> Option<Heard> {
        let stops = i32::from(number) == Signal::TERM.as_raw();
        let own = self.stop_signal.filter(|_| stops);
        let signal = rt::process::signal(own.unwrap_or(number))?;
        let ends = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];
        let ends = ends.iter().any(|signal| signal.as_raw() == i32::from(number));
        Some(if self.is_workload && ends {
            Heard::Order(Order::Stop(signal))
        } else {
            Heard::Signal(signal)
        })
    }

    /// Forks a process that serves session `number`.
    fn serve(&mut self, number: u32) {
        match rt::process::fork() {
            Ok(Some(pid)) => {
                if let Some(free) = self.servers.iter_mut().find(|slot| slot.is_none()) {
                    *free = Some((pid, number));
                }
            }
            Ok(None) => {
                // If this process kept the streams open, the first command's input would never
                // end.
                self.session.close_streams();
                // The score of PID 1 is not for its children.
                let _ = file::write(children::OOM_SCORE, b"0");
                // The parent reports an error through `answer_for`.
                match serve_session(self.devices, self.signals, number) {
                    Ok(()) => rt::exit(0),
                    Err(errno) => rt::exit(errno.raw_os_error()),
                }
            }
            Err(errno) => {
                let error = sys_error(format_args!("serve another command"), errno, "");
                answer_for(self.devices, number, error);
            }
        }
    }
}

impl Outside for Host<'_> {
    fn take_streams(&self, user: &User<'_>) -> Result<ProcessSession, Errno> {
        self.session.take_streams(user)
    }

    fn poll(
        &mut self,
        check: Option<&mut Check>,
        limit: Option<Duration>,
    ) -> Result<Option<Heard>, Errno> {
        // The last step may have left messages.
        if let Some(heard) = self.hear() {
            return Ok(Some(heard));
        }
        let output = check.as_ref().and_then(|check| check.output.as_ref());
        let ordered = self.session.step(self.signals, output, limit)?;
        if let Some(check) = check {
            check.read();
        }
        let ordered = ordered.filter(|_| self.is_workload).map(Order::End);
        Ok(ordered.map(Heard::Order).or_else(|| self.hear()))
    }

    fn tell(&mut self, state: WorkloadState) {
        // The next step finds out that the host has gone. When it learns that something runs, it
        // knows already what.
        if self.is_workload {
            let _ = self.session.report_state(state);
        }
        if !self.has_started {
            self.has_started = true;
            let _ = self.session.report_start(self.began);
            if !self.is_workload {
                self.session.close_ends();
            }
        }
    }

    fn note_end(&mut self, pid: Pid, status: WaitStatus) {
        let ended =
            self.servers.iter_mut().find(|slot| slot.is_some_and(|(known, _)| known == pid));
        if let Some((_, number)) = ended.and_then(Option::take).filter(|_| status.as_raw() != 0) {
            let what = format_args!("serve the command: its /init has ended");
            let error = match status.exit_status() {
                Some(errno) => sys_error(what, Errno::from_raw_os_error(errno), ""),
                None => Error::new(what, ""),
            };
            answer_for(self.devices, number, error);
        }
    }

    fn output(&mut self) -> Output {
        self.session.close_ends();
        self.session.output()
    }
}

/// Reports to the host that the server of session `number` has failed by `error`. The host does
/// not notice that the guest has closed a port.
fn answer_for(devices: &Devices, number: u32, error: Error) {
    if let Ok(session) = Session::open(devices, number, Duration::ZERO) {
        // The host may have closed its end as well.
        let _ = session.report_failure(Failure::trouble(error));
    }
}
