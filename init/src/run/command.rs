//! Command mode: PID 1 runs the command of the host, and the machine ends with it.
//!
//! Interfaces: kill(2), wait(2), sync(2). Signals to PID 1 do not end the machine: scripts
//! of packages send SIGTERM to make PID 1 execute itself again (`telinit u` of systemd).
//! Children of PID 1 serve further sessions, so that the memory of a session is freed with
//! its child.

use core::time::Duration;

use proto::settings::Settings;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};

use crate::report::log;
use crate::root::attachments::extra_mounts::ExtraMounts;
use crate::rt;
use crate::rt::process::{time_until, uptime, uptime_after};
use crate::run::session::Session;
use crate::run::session::failure::Failure;
use crate::sys::children::{self, shell_status};
use crate::sys::devices::Devices;
use crate::sys::error::{Context, Error, Result, sys_error};
use crate::sys::wait::{self, Pauses};

/// Time limit for the other processes to end after SIGTERM, and again after SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Time limit of the wait for the ports of a further session.
const PORT_LIMIT: Duration = Duration::from_secs(5);

/// Most further sessions at a time. A virtio-serial device has no ports for more.
const SERVERS: usize = 7;

/// Input of [`run`].
#[derive(Debug)]
pub struct CommandMode<'a> {
    /// The devices, ports among them.
    pub devices: &'a Devices,
    /// The session, if the host has been told that the machine is ready.
    pub session: Option<Session>,
    /// The command, and the settings of the machine.
    pub settings: &'a Settings<'a>,
    /// Mounts to unmount at the end.
    pub mounts: &'a ExtraMounts<'a>,
    /// Time since the kernel's start at which `/init` began.
    pub began: Duration,
    /// Time limit of the wait for a port.
    pub limit: Duration,
}

/// Runs the command and reports its status to the host. The caller then ends the machine.
///
/// # Errors
/// The host cannot be reached.
pub fn run(mode: CommandMode<'_>) -> Result<()> {
    let CommandMode { devices, session, settings, mounts, began, limit } = mode;
    rt::process::hold_signals();
    let signals = rt::process::signals(&|signal| signal == Signal::CHILD.as_raw());
    let signals = signals.context(format_args!("make a signalfd"))?;
    let mut session = match session {
        Some(session) => session,
        None => Session::open(devices, 0, limit)?,
    };
    match session.start(devices, &settings.command, limit) {
        Err(failure) => session.report_failure(failure),
        Ok(()) => {
            let reported = session.report_start(began);
            let served = reported.and_then(|()| serve(&mut session, &signals, devices));
            let status = served.context(format_args!("serve the command"))?;
            let ended = end_the_rest(&mut session, &signals);
            ended.context(format_args!("end all processes"))?;
            mounts.sync_and_unmount();
            session.report_end(shell_status(status))
        }
    }
    .context(format_args!("tell the host"))?;
    if !settings.alone {
        session.wait_for_release();
    }
    Ok(())
}

/// Serves the first session, and forks a server for each further one, until the command has
/// ended.
fn serve(session: &mut Session, signals: &OwnedFd, devices: &Devices) -> Result<WaitStatus, Errno> {
    let mut servers = [None; SERVERS];
    loop {
        if !session.step(signals, None)? {
            return Err(Errno::PIPE);
        }
        while let Some(number) = session.handle_messages() {
            match fork_server(devices, session, signals, number) {
                Ok(pid) => {
                    if let Some(free) = servers.iter_mut().find(|slot| slot.is_none()) {
                        *free = Some((pid, number));
                    }
                }
                Err(errno) => {
                    let error = sys_error(format_args!("serve another command"), errno, "");
                    log::warn!("{error}");
                    answer_for(devices, number);
                }
            }
        }
        let mut other = |pid, status: WaitStatus| {
            let ended = servers.iter_mut().find(|slot| slot.is_some_and(|(known, _)| known == pid));
            if let Some((_, number)) = ended.and_then(Option::take).filter(|_| status.as_raw() != 0)
            {
                answer_for(devices, number);
            }
        };
        if let (Some(status), _) = session.reap(&mut other) {
            return Ok(status);
        }
    }
}

/// Reports to the host that the server of session `number` has failed. The host does not
/// notice that the guest has closed a port.
fn answer_for(devices: &Devices, number: u32) {
    let error = Error::new(format_args!("serve the command"), "its /init has ended");
    if let Ok(session) = Session::open(devices, number, Duration::ZERO) {
        // The host may have closed its end as well.
        let _ = session.report_failure(Failure::trouble(error));
    }
}

/// Ends all processes but PID 1, and sends the rest of their output to the host.
fn end_the_rest(session: &mut Session, signals: &OwnedFd) -> Result<(), Errno> {
    for signal in [Signal::TERM, Signal::KILL] {
        children::signal_all(signal);
        let deadline = uptime_after(GRACE);
        loop {
            let (_, any_left) = session.reap(&mut |_, _| ());
            if !any_left && session.is_finished() {
                return Ok(());
            }
            let left = time_until(deadline);
            // Wait for a host that reads slowly, but not for a process that does not end.
            if left.is_zero() && (signal == Signal::TERM || session.is_drained()) {
                break;
            }
            session.handle_messages();
            let limit = (!left.is_zero()).then_some(left);
            if !session.step(signals, limit)? {
                return Err(Errno::PIPE);
            }
        }
    }
    Ok(())
}

/// Forks a process that serves session `number`; returns its id.
fn fork_server(
    devices: &Devices,
    first: &mut Session,
    signals: &OwnedFd,
    number: u32,
) -> Result<Pid, Errno> {
    if let Some(pid) = rt::process::fork()? {
        return Ok(pid);
    }
    // If this process kept the streams open, the first command's input would never end.
    first.close_streams();
    // On error, the parent reports through `answer_for`.
    let served = serve_session(devices, signals, number);
    rt::exit(i32::from(served.is_err()))
}

/// Serves session `number` from its request to its end.
fn serve_session(devices: &Devices, signals: &OwnedFd, number: u32) -> Result<(), Errno> {
    let began = uptime();
    let mut session = Session::open(devices, number, PORT_LIMIT).map_err(|_| Errno::NOENT)?;
    let text = session.receive_command()?;
    let started = Settings::parse(&text)
        .map_err(Failure::trouble)
        .and_then(|settings| session.start(devices, &settings.command, PORT_LIMIT));
    match started {
        Err(failure) => session.report_failure(failure)?,
        Ok(()) => {
            session.report_start(began)?;
            let Some(status) = serve_alone(&mut session, signals)? else { return Ok(()) };
            // Processes that the command left in the background go on, but nobody reads their
            // output.
            while !session.is_drained() {
                session.step(signals, None)?;
            }
            session.report_end(shell_status(status))?;
        }
    }
    session.wait_for_release();
    Ok(())
}

/// Serves one further session until its command has ended; returns the status. `None`: the
/// host has closed its end, and the command was killed.
fn serve_alone(session: &mut Session, signals: &OwnedFd) -> Result<Option<WaitStatus>, Errno> {
    while session.step(signals, None)? {
        session.handle_messages();
        if let (Some(status), _) = session.reap(&mut |_, _| ()) {
            return Ok(Some(status));
        }
    }
    session.close_streams();
    for signal in [Signal::HUP, Signal::KILL] {
        session.signal(signal);
        session.signal(Signal::CONT);
        for pause in Pauses::within(GRACE) {
            if session.reap(&mut |_, _| ()).0.is_some() {
                return Ok(None);
            }
            wait::sleep(pause);
        }
    }
    Ok(None)
}
