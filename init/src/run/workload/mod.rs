//! Supervision of a command: PID 1 starts it, checks its health, starts it again, and ends all
//! processes after its end or after an order.
//!
//! Interfaces: signal(7), wait(2), kill(2).
//!
//! | Module | Content |
//! |---|---|
//! | `outside` | what the supervisor needs of the world outside |
//! | `console` | a machine of which people see the console |
//! | `restarts` | whether and when the command starts again; pure |
//! | `health` | when a check is due, and what its result means; pure |
//! | `ends` | ending the command, and all processes |
//! | `check` | one health check: its process and its output |
//!
//! The host as the world outside is `super::host`.
//!
//! Invariant: the memory of PID 1 does not grow with the number of starts and checks. The child
//! allocates all memory that a start needs.

pub mod check;
pub mod console;
mod ends;
pub mod health;
pub mod outside;
pub mod restarts;

use core::ffi::CStr;
use core::fmt;
use core::time::Duration;

use proto::settings::Command;
use proto::settings::health::Unhealthy;
use proto::settings::restart::RestartPolicy;
use proto::text::show;
use proto::workload::{Health, Phase, WorkloadState};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::system::RebootCommand;

use self::check::{Check, Fate};
use self::health::{CheckResult, HealthWatch};
use self::outside::{Heard, Order, Outside};
use self::restarts::{End, Restarts};
use crate::report::log;
use crate::rt::process::{time_until, uptime, uptime_after};
use crate::run::session::failure::Failure;
use crate::run::session::spawn;
use crate::sys::children::{self, shell_status};
use crate::sys::error::{ErrnoName, Error};

/// Time limit for all processes to end after SIGKILL. A process that waits for a device
/// never ends.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Supervisor of a command.
struct Supervisor<'a> {
    command: &'a Command<'a>,
    outside: &'a mut dyn Outside,
    /// The command, or one of those before it, as long as it runs.
    child: Option<Pid>,
    /// The health check that runs.
    check: Option<Check>,
    /// An order that nobody has obeyed yet.
    order: Option<Order>,
    state: WorkloadState,
}

/// What ends a wait.
enum Event {
    /// The child has ended.
    Ended,
    /// The health check has this result.
    Checked(CheckResult),
    /// An order to end the child.
    Ordered(Order),
    /// The time has come.
    TimedOut,
}

/// Why the command does not run any more, or is to end.
enum RunEnd {
    /// It has ended by itself.
    Ended,
    /// It is unhealthy, and something is to be done about it.
    Unhealthy,
    /// An order.
    Ordered(Order),
}

/// Runs `command` as often as its policy says, until the machine is to end, and ends all other
/// processes. They get `grace` to end, unless the command says otherwise; `None` leaves them alone.
/// Returns how the machine ends, and the last status of the command.
///
/// # Errors
/// The first start of the command fails, or a command before it fails; or the outside is gone, and
/// the command was ended.
pub fn supervise(
    command: &Command<'_>,
    outside: &mut dyn Outside,
    grace: Option<Duration>,
) -> Result<(RebootCommand, u8), Failure> {
    let stop_timeout = command.stop_timeout.or(grace).unwrap_or_default();
    let state = WorkloadState { stop_timeout, ..WorkloadState::default() };
    let mut supervisor =
        Supervisor { command, outside, child: None, check: None, order: None, state };
    let ended = supervisor.supervise().and_then(|order| {
        if grace.is_some() {
            supervisor.end_processes()?;
        }
        Ok((order, supervisor.state.status))
    });
    supervisor.hang_up();
    ended
}

impl Supervisor<'_> {
    /// Runs the command as often as its policy says, until the machine is to end.
    fn supervise(&mut self) -> Result<RebootCommand, Failure> {
        let command = self.command;
        for args in &command.before {
            if let Some(order) = self.run_before(args)? {
                return Ok(order);
            }
        }
        // A terminal hangs up at the end of its program, and nothing can start on it again.
        let policy = command.restart;
        let policy = if command.terminal.is_none() { policy } else { RestartPolicy::default() };
        let mut restarts = Restarts::new(policy);
        // If the first start fails, the configuration is wrong, and a restart would not help.
        self.start(&command.args)?;
        loop {
            let began = uptime();
            let end = match self.watch()? {
                RunEnd::Ended => End::Status(self.state.status),
                RunEnd::Ordered(order) => {
                    if let Some(end) = self.obey(order)? {
                        return Ok(end);
                    }
                    End::Ordered
                }
                RunEnd::Unhealthy => {
                    self.end_command(self.stop_signal().unwrap_or(Signal::TERM))?;
                    if command.health.unhealthy == Unhealthy::PowerOff {
                        return Ok(RebootCommand::PowerOff);
                    }
                    End::Unhealthy
                }
            };
            if let End::Status(status @ 1..) = end {
                log::warn!("the command has ended with status {}", u64::from(status));
            }
            let Some(pause) = restarts.after(end, uptime().saturating_sub(began)) else {
                return Ok(RebootCommand::PowerOff);
            };
            self.state.restarts = restarts.count();
            self.tell(Phase::Pausing, None);
            // What it has left would hold its files and ports, or pile up.
            children::signal_all(Signal::KILL);
            if let Event::Ordered(order) = self.wait(Some(uptime_after(pause)))?
                && let Some(end) = self.obey(order)?
            {
                return Ok(end);
            }
            if let Err(failure) = self.start(&command.args) {
                log::warn!("{}", &*failure.message);
                self.state.status = failure.status;
            }
        }
    }

    /// Starts the words `args`.
    fn start(&mut self, args: &[&CStr]) -> Result<(), Failure> {
        let outside = &*self.outside;
        self.child = Some(spawn::spawn(self.command, args, &|user| outside.take_streams(user))?);
        Ok(())
    }

    fn tell(&mut self, phase: Phase, health: Option<Health>) {
        (self.state.phase, self.state.health) = (phase, health);
        self.outside.tell(self.state);
    }

    /// Runs one of the commands before the command. Returns how the machine ends, if an order
    /// has come meanwhile.
    fn run_before(&mut self, args: &[&CStr]) -> Result<Option<RebootCommand>, Failure> {
        self.start(args)?;
        self.tell(Phase::Before, None);
        // The wait has no limit, and there is no check.
        while let Event::Ordered(order) = self.wait(None)? {
            // A command that has not started yet cannot start again.
            if order != Order::Restart {
                return Ok(self.obey(order)?);
            }
        }
        match self.state.status {
            0 => Ok(None),
            status => {
                let name = show(args.first().copied().unwrap_or_default().to_bytes());
                let status = u64::from(status);
                let what = format_args!("run {name} before the command: status {status}");
                Err(Failure::trouble(Error::new(what, "")))
            }
        }
    }

    /// Waits for the end of the command, for an order, or until the command is unhealthy and
    /// something is to be done about it. Checks its health meanwhile.
    #[inline(never)]
    fn watch(&mut self) -> Result<RunEnd, Errno> {
        let health = &self.command.health;
        let has_check = !health.args.is_empty();
        let mut watch = HealthWatch::new(health.schedule, uptime());
        if self.child.is_some() {
            self.tell(Phase::Running, has_check.then_some(Health::Starting));
        }
        loop {
            let deadline = match &self.check {
                Some(check) => Some(check.deadline),
                None => has_check.then(|| watch.due()),
            };
            let event = match self.child {
                // It could not be started again.
                None => Event::Ended,
                Some(_) => self.wait(deadline)?,
            };
            let changed = match (event, self.check.take()) {
                (Event::Ended, _) => return Ok(RunEnd::Ended),
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
                (Event::Checked(result), Some(check)) => {
                    note(&mut watch, result, check.began, &check)
                }
                // Only a check that is there can end.
                (Event::Checked(_), None) => None,
            };
            if let Some(health) = changed {
                self.tell(Phase::Running, changed);
                if health == Health::Unhealthy && self.command.health.unhealthy != Unhealthy::Report
                {
                    self.check = None;
                    return Ok(RunEnd::Unhealthy);
                }
            }
        }
    }

    /// Reaps all children that have ended. Returns whether children are left.
    fn reap(&mut self) -> bool {
        let (outside, check) = (&mut *self.outside, &mut self.check);
        let (status, any_left) = children::reap(self.child, &mut |pid, status| match check {
            Some(check) if check.pid == pid => check.end(status),
            _ => outside.note_end(pid, status),
        });
        if let Some(status) = status {
            (self.child, self.state.status) = (None, shell_status(status));
        }
        any_left
    }

    /// Waits for an event, at most until `deadline`.
    fn wait(&mut self, deadline: Option<Duration>) -> Result<Event, Errno> {
        let had_child = self.child.is_some();
        loop {
            self.reap();
            if had_child && self.child.is_none() {
                return Ok(Event::Ended);
            }
            if let Some(order) = self.order.take() {
                return Ok(Event::Ordered(order));
            }
            match self.check.as_ref().map(Check::fate) {
                Some(Fate::Ended(0)) => return Ok(Event::Checked(CheckResult::Passed)),
                Some(Fate::Ended(_)) => return Ok(Event::Checked(CheckResult::Failed)),
                // Its result is known already.
                Some(Fate::EndedLate) => self.check = None,
                Some(Fate::Runs | Fate::GivenUp) | None => {}
            }
            let left = deadline.map(time_until);
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Event::TimedOut);
            }
            self.poll(left)?;
        }
    }

    /// Waits for anything that the outside knows of, at most for `limit`.
    fn poll(&mut self, limit: Option<Duration>) -> Result<(), Errno> {
        match self.outside.poll(self.check.as_mut(), limit)? {
            Some(Heard::Signal(signal)) => self.signal(signal),
            // The first order to end the machine counts, and more than one to start again.
            Some(Heard::Order(order)) if self.order.is_none_or(|known| known == Order::Restart) => {
                self.order = Some(order);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends a signal to the child and its process group.
    fn signal(&self, signal: Signal) {
        if let Some(child) = self.child {
            // This fails if the whole group has ended.
            let _ = rustix::process::kill_process_group(child, signal);
        }
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
            let failures = u64::from(watch.failures());
            log::warn!("the command is unhealthy: {failures} failed checks: {why}");
        }
        (Some(_), _) => log::warn!("the command is healthy"),
        (None, _) => {}
    }
    changed
}
