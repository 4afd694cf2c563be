//! Supervision of a workload, the command of an image: PID 1 starts it, restarts it, and
//! ends the machine after its end or after an order ([`orders`], [`power_button`]).
//!
//! Interfaces: signal(7), signalfd(2), wait(2), setsid(2), tcsetpgrp(3), reboot(2).
//!
//! Invariant: the memory of PID 1 does not grow with the number of starts. The child
//! allocates all memory that a start needs.

use core::convert::Infallible;
use core::time::Duration;

use proto::settings::Command;
use proto::status::TROUBLE;
use proto::words::text;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitStatus};
use rustix::system::RebootCommand;

use crate::report::log;
use crate::root::attachments::extra_mounts::ExtraMounts;
use crate::rt;
use crate::rt::process::uptime;
use crate::run::orders::{self, of_signal};
use crate::run::session::failure::Failure;
use crate::run::session::spawn;
use crate::run::session::stdio::{ProcessSession, Stdio};
use crate::run::session::user;
use crate::sys::children::{self, shell_status};
use crate::sys::devices::Devices;
use crate::sys::error::{Context, ErrnoName, Error, Result};
use crate::sys::file;
use crate::sys::power_button;
use crate::sys::wait::timespec;

/// Time limit for all processes to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Time limit for all processes to end after SIGKILL. A process that waits for a device
/// never ends.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Longest message in bytes of a child that could not start the command.
const MESSAGE_MAX: usize = 512;

/// Pause before the next start of the command.
#[derive(Debug)]
struct Pause {
    next: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);
    /// A command that ran this long is not in a loop of crashes.
    const STABLE: Duration = Duration::from_secs(10);

    const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause after a run of length `ran`, twice as long as the pause before.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= Self::STABLE {
            *self = Self::new();
        }
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause
    }
}

/// Event that ends a wait.
enum Event {
    /// The command has ended.
    Ended(WaitStatus),
    /// A signal orders PID 1 to end the machine in this way.
    Ordered(RebootCommand),
    /// The time limit has passed.
    TimedOut,
}

/// Descriptors from which PID 1 learns what happens.
struct Signals {
    /// A signalfd(2) for SIGCHLD and for the signals of orders.
    fd: OwnedFd,
    /// The power button, if the machine has one; its press is an order, too.
    button: Option<OwnedFd>,
}

/// Runs `command` until the machine is to end, unmounts `mounts`, and ends the machine. The
/// power button is one of the `devices`.
///
/// # Errors
/// The first start of the command fails.
pub fn run(
    command: &Command<'_>,
    mounts: &ExtraMounts<'_>,
    devices: Option<&Devices>,
) -> Result<Infallible> {
    rt::process::hold_signals();
    let is_wanted = |signal| signal == Signal::CHILD.as_raw() || of_signal(signal).is_some();
    let fd = rt::process::signals(&is_wanted).context(format_args!("make a signalfd"))?;
    let signals = Signals { fd, button: devices.and_then(power_button::open) };
    // Without this, the kernel resets the machine on Ctrl-Alt-Del by itself. In a container
    // the call fails.
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    // These fail if a shell was PID 1 before and leads its session already, or if the
    // console is no terminal.
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(rt::stderr());
    let mut pause = Pause::new();
    // If the first start fails, the configuration is wrong, and a restart would not help.
    let mut started = Ok(start(command)?);
    let order = loop {
        let began = uptime();
        let status = match started {
            Ok(child) => match signals.wait(Some(child), None)? {
                Event::Ended(status) => shell_status(status),
                Event::Ordered(order) => {
                    end_command(child, command, &signals)?;
                    break order;
                }
                // This cannot happen, because the wait has no limit.
                Event::TimedOut => break RebootCommand::PowerOff,
            },
            Err(error) => {
                log::warn!("{error}");
                TROUBLE
            }
        };
        if status != 0 {
            log::warn!("the command has ended with status {status}");
        }
        if !command.restart.is_due(status) {
            break RebootCommand::PowerOff;
        }
        let pause = pause.after(uptime().saturating_sub(began));
        log::debug!("starting the command again after {} s", pause.as_secs());
        if let Event::Ordered(order) = signals.wait(None, Some(pause))? {
            break order;
        }
        started = start(command);
    };
    end_processes(&signals)?;
    mounts.sync_and_unmount();
    orders::carry_out(order)
}

/// Sends the command its stop signal, if it has one, and waits for its end. The other
/// processes may still be needed: databases write out what they hold.
fn end_command(child: Pid, command: &Command<'_>, signals: &Signals) -> Result<()> {
    let Some(signal) = command.stop_signal.and_then(rt::process::signal) else { return Ok(()) };
    log::debug!("ending the command by its stop signal");
    for signal in [signal, Signal::CONT] {
        // This fails if the whole group has ended.
        let _ = rustix::process::kill_process_group(child, signal);
    }
    let has_ended = &mut || children::reap(Some(child), &mut |_, _| ()).0.is_some();
    match signals.wait_until(has_ended, GRACE)? {
        true => Ok(()),
        false => {
            children::signal_all(Signal::KILL);
            signals.wait_for_all(LAST_GRACE)
        }
    }
}

/// Ends all processes but PID 1.
fn end_processes(signals: &Signals) -> Result<()> {
    log::debug!("ending all processes");
    for (signal, grace) in [(Signal::TERM, GRACE), (Signal::KILL, LAST_GRACE)] {
        children::signal_all(signal);
        signals.wait_for_all(grace)?;
    }
    // Output to a serial line may still be in the kernel's buffer. A child waits for it,
    // because the wait never ends on a stopped terminal.
    if let Ok(None) = rt::process::fork() {
        let _ = rustix::termios::tcdrain(rt::stderr()); // fails if it is no terminal
        rt::exit(0);
    }
    signals.wait_for_all(LAST_GRACE)
}

impl Signals {
    /// Waits for an event, at most for `limit`, and reaps all children that end.
    fn wait(&self, child: Option<Pid>, limit: Option<Duration>) -> Result<Event> {
        let deadline = limit.map(|limit| uptime() + limit);
        loop {
            if let (Some(status), _) = children::reap(child, &mut |_, _| ()) {
                return Ok(Event::Ended(status));
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(uptime()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Event::TimedOut);
            }
            if let Some(order) = self.poll(left).context(format_args!("wait for signals"))? {
                return Ok(Event::Ordered(order));
            }
        }
    }

    /// Waits until no child is left, at most for `limit`.
    fn wait_for_all(&self, limit: Duration) -> Result<()> {
        self.wait_until(&mut || !children::reap(None, &mut |_, _| ()).1, limit).map(drop)
    }

    /// Waits until `is_over`, at most for `limit`. Returns whether it is.
    fn wait_until(&self, is_over: &mut dyn FnMut() -> bool, limit: Duration) -> Result<bool> {
        let deadline = uptime() + limit;
        while !is_over() {
            let left = deadline.saturating_sub(uptime());
            if left.is_zero() {
                return Ok(false);
            }
            self.poll(Some(left)).context(format_args!("wait for signals"))?;
        }
        Ok(true)
    }

    /// Waits for a signal or the button; returns an order, if it is one.
    fn poll(&self, limit: Option<Duration>) -> Result<Option<RebootCommand>, Errno> {
        let button = self.button.as_ref();
        let mut fds =
            [&self.fd, button.unwrap_or(&self.fd)].map(|fd| PollFd::new(fd, PollFlags::IN));
        match poll(&mut fds, limit.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let is_pressed = button.is_some_and(power_button::is_pressed);
        Ok(orders::take(&self.fd).or(is_pressed.then_some(RebootCommand::PowerOff)))
    }
}

/// Starts the command on the console, in the session of PID 1. If the console is a terminal,
/// it controls that session.
fn start(command: &Command<'_>) -> Result<Pid> {
    let what = format_args!("start the command");
    let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let Some(pid) = rt::process::fork().context(what)? else {
        if let Err(Failure { message, .. }) = become_command(command) {
            // This fails only if the parent has ended.
            let _ = file::write_all(&child_report, message.as_bytes());
        }
        rt::exit(TROUBLE.into());
    };
    drop(child_report);
    let mut message = [0; MESSAGE_MAX];
    match file::read_stream(&report, &mut message) {
        // The pipe was closed by execve(2).
        Ok(b"") => Ok(pid),
        Ok(message) => Err(Error::new(format_args!("{}", text(message)), "")),
        Err(errno) => Err(errno).context(what),
    }
}

/// Turns the child into the command; returns only on failure.
fn become_command(command: &Command<'_>) -> Result<(), Failure> {
    user::look_up(command.user, &mut |user| {
        // Descriptors 0 to 2 of PID 1 are the console, opened for reading and writing.
        let [input, output, error] = [(); 3].map(|()| duplicate(rt::stderr()));
        let (input, output, error) = (input?, output?, error?);
        let stdio = Stdio { input, output, error, session: ProcessSession::Shared };
        spawn::execute(command, user, stdio)
    })
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|errno| {
        Failure::trouble(Error::new(format_args!("open the console: {}", ErrnoName(errno)), ""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn pauses_grow_while_it_crashes() {
        let mut pause = Pause::new();
        let mut after = |seconds| pause.after(Duration::from_secs(seconds)).as_millis();
        let pauses: Vec<_> = (0..12).map(|_| after(9)).collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]
        );
        assert_eq!([after(10), after(0), after(0)], [100, 200, 400]);
    }
}
