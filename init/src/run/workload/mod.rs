//! Supervision of a workload, the command of an image: PID 1 starts it, checks its health, starts
//! it again, and ends the machine after its end or after an order ([`orders`]).
//!
//! Interfaces: signal(7), wait(2), setsid(2), tcsetpgrp(3), reboot(2).
//!
//! | Module | Content |
//! |---|---|
//! | `restarts` | whether and when it starts again; pure |
//! | `health` | when a check is due, and what its result means; pure |
//! | `start` | becoming a command, as a child of PID 1 |
//! | `check` | one health check: its process and its output |
//! | `signals` | the descriptors that end a wait |
//!
//! Invariant: the memory of PID 1 does not grow with the number of starts and checks. The child
//! allocates all memory that a start needs.

mod check;
pub mod health;
pub mod restarts;
mod signals;
mod start;

use core::convert::Infallible;
use core::ffi::CStr;
use core::fmt;
use core::time::Duration;

use proto::settings::health::Unhealthy;
use proto::settings::{Command, STOP_TIMEOUT};
use proto::status::TROUBLE;
use proto::text::show;
use rustix::process::{Pid, Signal, WaitStatus};
use rustix::system::RebootCommand;

use self::check::Check;
use self::health::{CheckResult, Health, HealthWatch};
use self::restarts::{End, Restarts};
use self::signals::Signals;
use self::start::start;
use crate::report::log;
use crate::root::attachments::extra_mounts::ExtraMounts;
use crate::rt;
use crate::rt::process::{time_until, uptime, uptime_after};
use crate::run::orders;
use crate::sys::children::{self, shell_status};
use crate::sys::devices::Devices;
use crate::sys::error::{ErrnoName, Error, Result};
use crate::sys::file;

/// Time limit for all processes to end after SIGKILL. A process that waits for a device
/// never ends.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// The file by which a process says how fit it is to be killed for lack of memory (proc(5)).
const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";

/// Supervisor of a workload.
#[derive(Debug)]
struct Supervisor<'a> {
    command: &'a Command<'a>,
    signals: Signals,
    /// The first order to end the machine that nobody has obeyed yet.
    order: Option<RebootCommand>,
    /// The health check that runs.
    check: Option<Check>,
}

/// What ends a wait.
enum Event {
    /// The child has ended.
    Ended(WaitStatus),
    /// The health check has ended.
    Checked(WaitStatus),
    /// A signal or the power button orders PID 1 to end the machine in this way.
    Ordered(RebootCommand),
    /// The time has come.
    TimedOut,
}

/// Why the command does not run any more, or is to end.
enum RunEnd {
    /// It has ended with this status.
    Status(u8),
    /// It is unhealthy, and something is to be done about it.
    Unhealthy,
    /// An order to end the machine in this way.
    Ordered(RebootCommand),
}

/// Runs `command` until the machine is to end, unmounts `mounts`, and ends the machine. The
/// power button is one of the `devices`.
///
/// # Errors
/// The first start of the command fails, or a command before it fails.
#[inline(never)]
pub fn run(
    command: &Command<'_>,
    mounts: &ExtraMounts<'_>,
    devices: Option<&Devices>,
) -> Result<Infallible> {
    rt::process::hold_signals();
    let signals = Signals::open(devices)?;
    // Without this, the kernel resets the machine on Ctrl-Alt-Del by itself. In a container
    // the call fails.
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    // These fail if a shell was PID 1 before and leads its session already, or if the
    // console is no terminal.
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(rt::stderr());
    // The kernel never kills PID 1 of a machine, but that of a container. A root without /proc
    // has no such file.
    let _ = file::write(OOM_SCORE, b"-1000");
    let mut supervisor = Supervisor { command, signals, order: None, check: None };
    let order = supervisor.supervise()?;
    supervisor.end_processes()?;
    mounts.sync_and_unmount();
    orders::carry_out(order)
}

impl Supervisor<'_> {
    /// Runs the command as often as its policy says, until the machine is to end.
    #[inline(never)]
    fn supervise(&mut self) -> Result<RebootCommand> {
        let command = self.command;
        for args in &command.before {
            if let Some(order) = self.run_before(args)? {
                return Ok(order);
            }
        }
        let mut restarts = Restarts::new(command.restart);
        // If the first start fails, the configuration is wrong, and a restart would not help.
        let mut started = Ok(start(command, &command.args)?);
        loop {
            let began = uptime();
            let end = match started {
                Ok(child) => match self.watch(child)? {
                    RunEnd::Status(status) => End::Status(status),
                    RunEnd::Ordered(order) => {
                        self.obey(child)?;
                        return Ok(order);
                    }
                    RunEnd::Unhealthy => {
                        self.end_command(child, self.stop_signal().unwrap_or(Signal::TERM))?;
                        if command.health.unhealthy == Unhealthy::PowerOff {
                            return Ok(RebootCommand::PowerOff);
                        }
                        End::Unhealthy
                    }
                },
                Err(error) => {
                    log::warn!("{error}");
                    End::Status(TROUBLE)
                }
            };
            if let End::Status(status @ 1..) = end {
                log::warn!("the command has ended with status {status}");
            }
            let Some(pause) = restarts.after(end, uptime().saturating_sub(began)) else {
                return Ok(RebootCommand::PowerOff);
            };
            // What it has left would hold its files and ports, or pile up.
            children::signal_all(Signal::KILL);
            log::debug!("starting the command again after {} s", pause.as_secs());
            if let Event::Ordered(order) = self.wait(None, Some(uptime_after(pause)))? {
                return Ok(order);
            }
            started = start(command, &command.args);
        }
    }

    /// Runs one of the commands before the command. Returns an order that has come meanwhile.
    fn run_before(&mut self, args: &[&CStr]) -> Result<Option<RebootCommand>> {
        let child = start(self.command, args)?;
        match self.wait(Some(child), None)? {
            Event::Ordered(order) => {
                self.obey(child)?;
                Ok(Some(order))
            }
            Event::Ended(status) => match shell_status(status) {
                0 => Ok(None),
                status => {
                    let name = show(args.first().copied().unwrap_or_default().to_bytes());
                    let what = format_args!("run {name} before the command: status {status}");
                    Err(Error::new(what, ""))
                }
            },
            // The wait has no limit, and there is no check.
            _ => Ok(None),
        }
    }

    /// Waits for the end of the command, for an order, or until the command is unhealthy and
    /// something is to be done about it. Checks its health meanwhile.
    #[inline(never)]
    fn watch(&mut self, child: Pid) -> Result<RunEnd> {
        let health = &self.command.health;
        let mut watch = HealthWatch::new(health.schedule, uptime());
        loop {
            let deadline = match &self.check {
                Some(check) => Some(check.deadline),
                None => (!health.args.is_empty()).then(|| watch.due()),
            };
            let changed = match (self.wait(Some(child), deadline)?, self.check.take()) {
                (Event::Ended(status), _) => return Ok(RunEnd::Status(shell_status(status))),
                (Event::Ordered(order), _) => return Ok(RunEnd::Ordered(order)),
                (Event::TimedOut, None) => match Check::start(self.command) {
                    Ok(check) => {
                        self.check = Some(check);
                        None
                    }
                    Err(errno) => {
                        note(&mut watch, CheckResult::Failed, uptime(), &ErrnoName(errno))
                    }
                },
                (Event::TimedOut, Some(mut check)) => {
                    check.give_up();
                    let changed = note(&mut watch, CheckResult::Failed, check.began, &check);
                    check.deadline = watch.due();
                    self.check = Some(check);
                    changed
                }
                (Event::Checked(status), Some(mut check)) => {
                    let result = check.end(status);
                    result.and_then(|result| note(&mut watch, result, check.began, &check))
                }
                // Only a check that is there can end.
                (Event::Checked(_), None) => None,
            };
            if changed == Some(Health::Unhealthy) && health.unhealthy != Unhealthy::Report {
                self.check = None;
                return Ok(RunEnd::Unhealthy);
            }
        }
    }

    /// Waits for an event, at most until `deadline`, and reaps all children that end.
    fn wait(&mut self, child: Option<Pid>, deadline: Option<Duration>) -> Result<Event> {
        loop {
            let check = self.check.as_ref().map(|check| check.pid);
            let mut checked = None;
            let other = &mut |pid, status| {
                if Some(pid) == check {
                    checked = Some(status);
                }
            };
            if let (Some(status), _) = children::reap(child, other) {
                return Ok(Event::Ended(status));
            }
            if let Some(order) = self.order.take() {
                return Ok(Event::Ordered(order));
            }
            if let Some(status) = checked {
                return Ok(Event::Checked(status));
            }
            let left = deadline.map(time_until);
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Event::TimedOut);
            }
            self.poll(left)?;
        }
    }

    /// Waits until `is_over`, at most for `limit`. Returns whether it is.
    fn wait_until(&mut self, is_over: &mut dyn FnMut() -> bool, limit: Duration) -> Result<bool> {
        let deadline = uptime_after(limit);
        while !is_over() {
            let left = time_until(deadline);
            if left.is_zero() {
                return Ok(false);
            }
            self.poll(Some(left))?;
        }
        Ok(true)
    }

    /// Waits until no child is left, at most for `limit`.
    fn wait_for_all(&mut self, limit: Duration) -> Result<()> {
        self.wait_until(&mut || !children::reap(None, &mut |_, _| ()).1, limit).map(drop)
    }

    fn poll(&mut self, limit: Option<Duration>) -> Result<()> {
        let order = self.signals.poll(self.check.as_mut(), limit)?;
        self.order = self.order.or(order);
        Ok(())
    }

    /// The signal that asks the command to end, if it has one of its own.
    fn stop_signal(&self) -> Option<Signal> {
        self.command.stop_signal.and_then(rt::process::signal)
    }

    /// Time for processes to end when they are asked to.
    fn grace(&self) -> Duration {
        self.command.stop_timeout.unwrap_or(STOP_TIMEOUT)
    }

    /// Ends the command after an order, if it has a stop signal. The other processes may still
    /// be needed: databases write out what they hold.
    fn obey(&mut self, child: Pid) -> Result<()> {
        match self.stop_signal() {
            Some(signal) => self.end_command(child, signal),
            None => Ok(()),
        }
    }

    /// Sends `signal` to the command and waits for its end; kills all processes if it does not
    /// end in time.
    fn end_command(&mut self, child: Pid, signal: Signal) -> Result<()> {
        log::debug!("ending the command by its stop signal");
        for signal in [signal, Signal::CONT] {
            // This fails if the whole group has ended.
            let _ = rustix::process::kill_process_group(child, signal);
        }
        let has_ended = &mut || children::reap(Some(child), &mut |_, _| ()).0.is_some();
        match self.wait_until(has_ended, self.grace())? {
            true => Ok(()),
            false => {
                children::signal_all(Signal::KILL);
                self.wait_for_all(LAST_GRACE)
            }
        }
    }

    /// Ends all processes but PID 1.
    fn end_processes(&mut self) -> Result<()> {
        log::debug!("ending all processes");
        for (signal, grace) in [(Signal::TERM, self.grace()), (Signal::KILL, LAST_GRACE)] {
            children::signal_all(signal);
            self.wait_for_all(grace)?;
        }
        // Output to a serial line may still be in the kernel's buffer. A child waits for it,
        // because the wait never ends on a stopped terminal.
        if let Ok(None) = rt::process::fork() {
            let _ = rustix::termios::tcdrain(rt::stderr()); // fails if it is no terminal
            rt::exit(0);
        }
        self.wait_for_all(LAST_GRACE)
    }
}

/// Takes the result of a check that began at `began`, and reports it; `why` tells how it has
/// failed. Returns the health, if it has changed.
fn note(
    watch: &mut HealthWatch,
    result: CheckResult,
    began: Duration,
    why: &dyn fmt::Display,
) -> Option<Health> {
    let changed = watch.note(result, began, uptime());
    match (changed, result) {
        (Some(Health::Unhealthy), _) => {
            log::warn!("the command is unhealthy: {} failed checks: {why}", watch.failures());
        }
        (Some(_), _) => log::warn!("the command is healthy"),
        (None, _) => {}
    }
    changed
}
