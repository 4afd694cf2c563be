//! Command mode: PID 1 runs a command, and everything ends with it.
//!
//! Interfaces: kill(2), wait(2), sync(2). The machine ends with its command. Signals to
//! PID 1 do not end it: scripts of packages send SIGTERM to make PID 1 execute itself
//! again (`telinit u` of systemd). More commands in the same machine are served by
//! children of PID 1, whose memory goes with them.

use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};
use virtinitrd_proto::settings::Settings;

use crate::root::extra_mounts::ExtraMounts;
use crate::rt;
use crate::rt::process::uptime;
use crate::run::session::Session;
use crate::run::session::failure::Failure;
use crate::sys::children::{self, shell_status};
use crate::sys::devices::Devices;
use crate::sys::error::{Context, Error, Result, sys_error};
use crate::sys::wait::{self, Pauses};

/// How long processes that the command left may take to end after SIGTERM, and
/// again after SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long the devices of a second command are waited for.
const PORT_LIMIT: Duration = Duration::from_secs(5);

/// Sessions beside the first at a time: what a virtio-serial device has devices
/// for.
const SERVERS: usize = 7;

/// What command mode needs of the boot.
#[derive(Debug)]
pub struct CommandMode<'a> {
    /// Where the devices are.
    pub devices: &'a Devices,
    /// What to run.
    pub settings: &'a Settings<'a>,
    /// What to unmount at the end.
    pub mounts: &'a ExtraMounts<'a>,
    /// When `/init` began.
    pub began: Duration,
    /// How long a port is waited for.
    pub limit: Duration,
}

/// Runs the command; when the host has been told its status there is nothing
/// left to do but to end the machine.
///
/// # Errors
/// Where there is no way to reach the host.
pub fn run(mode: &CommandMode<'_>) -> Result<()> {
    let CommandMode { devices, settings, mounts, began, limit } = *mode;
    rt::process::hold_signals();
    let signals = rt::process::signals(&|signal| signal == Signal::CHILD.as_raw());
    let signals = signals.context(format_args!("make a signalfd"))?;
    let mut session = Session::open(devices, 0, limit)?;
    match session.start(devices, &settings.command, limit) {
        Err(failure) => session.report_failure(failure),
        Ok(()) => {
            let told = session.report_start(began);
            let served = told.and_then(|()| serve(&mut session, &signals, devices));
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

/// Until the command has ended.
fn serve(session: &mut Session, signals: &OwnedFd, devices: &Devices) -> Result<WaitStatus, Errno> {
    let mut servers = [None; SERVERS];
    loop {
        if !session.step(signals, None)? {
            return Err(Errno::PIPE);
        }
        while let Some(number) = session.handle_messages() {
            match serve_another(devices, session, signals, number) {
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

/// Tells the host that nobody serves session `number`: that a port is closed
/// here it does not hear.
fn answer_for(devices: &Devices, number: u32) {
    let error = Error::new(format_args!("serve the command"), "its /init has ended");
    if let Ok(session) = Session::open(devices, number, Duration::ZERO) {
        // The host may have gone as well.
        let _ = session.report_failure(Failure::trouble(error));
    }
}

/// Asks all processes but PID 1 to end, then makes them; their last words still
/// go to the host.
fn end_the_rest(session: &mut Session, signals: &OwnedFd) -> Result<(), Errno> {
    for signal in [Signal::TERM, Signal::KILL] {
        children::signal_all(signal);
        let deadline = uptime() + GRACE;
        loop {
            let (_, any_left) = session.reap(&mut |_, _| ());
            if !any_left && session.is_finished() {
                return Ok(());
            }
            let left = deadline.saturating_sub(uptime());
            // A host that reads slowly is waited for, a process that does not
            // end is not.
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

/// Forks a process that serves session `number`; its id.
fn serve_another(
    devices: &Devices,
    first: &mut Session,
    signals: &OwnedFd,
    number: u32,
) -> Result<Pid, Errno> {
    if let Some(pid) = rt::process::fork()? {
        return Ok(pid);
    }
    // Held here too, the first command's input would never end.
    first.close_streams();
    // Of an error whoever asked hears by `answer_for`.
    let served = another(devices, signals, number);
    rt::exit(i32::from(served.is_err()))
}

/// The whole life of a second command.
fn another(devices: &Devices, signals: &OwnedFd, number: u32) -> Result<(), Errno> {
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
            // What the command left in the background goes on, but nobody reads
            // what it writes.
            while !session.is_drained() {
                session.step(signals, None)?;
            }
            session.report_end(shell_status(status))?;
        }
    }
    session.wait_for_release();
    Ok(())
}

/// As [`serve`], where nothing else is to be served. A command whose host has
/// gone is ended, and has no status.
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
