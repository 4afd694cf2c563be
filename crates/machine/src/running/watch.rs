//! A machine that runs: hearing of all that happens, and ending it.
//!
//! Interface: poll(2).

use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use virtinitrd_proto::control::ToGuest;

use super::broker::Broker;
use super::halt::Halt;
use super::outcome::Outcome;
use super::run::Report;
use super::time_limit::TimeLimit;
use super::timing::Timing;
use crate::process::child::{Child, describe};
use crate::process::qmp::Qmp;
use crate::process::signals::{Signals, is_end};
use crate::session::State;
use crate::session::console::Console;
use crate::session::foreground::Foreground;

/// How long QEMU may take to end after SIGTERM.
const QEMU_GRACE: Duration = Duration::from_secs(2);

/// How long a daemon may take to end once QEMU is gone.
const DAEMON_GRACE: Duration = Duration::from_millis(500);

/// How long a command may take to end after SIGTERM or SIGHUP, as containers
/// have it. After SIGINT or SIGQUIT it may go on: shells and debuggers do.
const COMMAND_GRACE: Duration = Duration::from_secs(10);

/// How long a guest may be silent before its command runs. A boot takes two
/// seconds, on a crowded host without KVM perhaps ten.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// The running programs.
#[derive(Debug)]
pub struct Watch {
    signals: Signals,
    qmp: Qmp,
    qemu: Child,
    daemons: Vec<Child>,
    /// When patience ends with whom we are waiting for.
    deadline: Option<Instant>,
    start: Instant,
    /// When the boot that is watched began.
    boot: Instant,
    limit: TimeLimit,
    outcome: Option<Outcome>,
    /// The signal that was passed on to the command, and when patience with it
    /// ends. Another one ends the machine.
    passed_on: Option<(Signal, Option<Instant>)>,
    halt: Halt,
}

/// What only a command has.
#[derive(Debug)]
pub struct Command<'a> {
    /// Its streams, and its terminal.
    pub foreground: Foreground,
    /// Where those are served who want to run more.
    pub broker: Broker,
    /// When it reached what.
    pub timing: &'a mut Timing,
}

impl Watch {
    /// Takes over what was started.
    #[must_use]
    pub fn new(
        signals: Signals,
        qmp: Qmp,
        qemu: Child,
        daemons: Vec<Child>,
        mut limit: TimeLimit,
    ) -> Self {
        limit.watched();
        let start = Instant::now();
        Self {
            signals,
            qmp,
            qemu,
            daemons,
            deadline: None,
            start,
            boot: start,
            limit,
            outcome: None,
            passed_on: None,
            halt: Halt::new(),
        }
    }

    /// Watches until QEMU has ended.
    pub fn until_the_end(
        mut self,
        mut command: Option<Command<'_>>,
        mut console: Option<Console>,
    ) -> Result<Report> {
        let status = loop {
            self.wait(command.as_ref(), console.as_ref())?;
            self.qmp.read();
            if let Some(console) = &mut console {
                console.read();
            }
            self.take_signals(command.as_mut())?;
            if let Some(command) = &mut command {
                self.watch_command(command)?;
            }
            if let (Some(command), Some(console)) = (&command, &mut console) {
                self.watch_boot(command, console);
                if console.tells_of_halt() {
                    self.end(Outcome::Halted);
                }
            }
            if command.is_none() {
                self.watch_halt();
            }
            self.watch_clock(command.as_ref());
            if let Some(status) = self.qemu.try_wait()?
                && !self.waits_for_output(command.as_ref())
            {
                break status;
            }
            self.watch_daemons()?;
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.qemu.signal(Signal::SIGKILL);
            }
        };
        self.qmp.read();
        let outcome = self.conclude(status)?;
        if let Some(console) = &mut console {
            console.read();
        }
        let boots = command.as_ref().is_some_and(|command| !command.timing.has_run());
        let console = console.map(|console| console.last_words(boots)).unwrap_or_default();
        Ok(Report { outcome, console })
    }

    /// Whether the command's status is known, but its output is still being written,
    /// which needs no machine any more.
    fn waits_for_output(&self, command: Option<&Command<'_>>) -> bool {
        let is_delivering = |command: &Command<'_>| command.foreground.session.is_delivering();
        self.outcome.is_none() && command.is_some_and(is_delivering)
    }

    /// What it was, once QEMU has ended and its daemons had time to.
    fn conclude(mut self, status: ExitStatus) -> Result<Outcome> {
        self.let_daemons_end()?;
        let shutdown = self.qmp.shutdown().cloned();
        if self.outcome.is_none() && shutdown.is_none() && !status.success() {
            // QEMU may have failed because a daemon did, which then knows why.
            self.outcome =
                self.first_daemon(|status| status.code().is_some_and(|code| code != 0))?;
        }
        let words = self.qemu.messages();
        Ok(self.outcome.unwrap_or_else(|| Outcome::of_qemu(status, &words, shutdown)))
    }

    /// Ends the machine for a reason; the first one holds.
    fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
        if self.deadline.is_none() {
            self.qemu.signal(Signal::SIGTERM);
            self.deadline = Some(Instant::now() + QEMU_GRACE);
        }
    }

    fn take_signals(&mut self, mut command: Option<&mut Command<'_>>) -> Result<()> {
        for signal in self.signals.take()? {
            let foreground = command.as_mut().map(|command| &mut command.foreground);
            match (signal, foreground.filter(|foreground| foreground.is_running())) {
                (Signal::SIGWINCH, Some(foreground)) => foreground.resize(),
                (Signal::SIGCONT, Some(foreground)) => foreground.resume()?,
                (signal, Some(foreground)) if is_end(signal) && self.passed_on.is_none() => {
                    foreground.session.signal(signal);
                    let is_patient = matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
                    let limit = (!is_patient).then(|| Instant::now() + COMMAND_GRACE);
                    self.passed_on = Some((signal, limit));
                }
                (signal, _) if is_end(signal) => self.end(Outcome::Stopped(signal)),
                _ => {}
            }
        }
        Ok(())
    }

    fn watch_command(&mut self, command: &mut Command<'_>) -> Result<()> {
        command.foreground.update()?;
        let session = &mut command.foreground.session;
        command.timing.note(session.started(), session.state());
        match session.state().clone() {
            State::Ended(status) => {
                self.outcome.get_or_insert(Outcome::Command(status));
                // All is written and synced; there is nothing to wait for.
                self.qemu.signal(Signal::SIGKILL);
            }
            State::Failed(status, problem) => {
                self.outcome.get_or_insert(Outcome::NotStarted(status, problem));
                self.qemu.signal(Signal::SIGKILL);
            }
            State::Unwritten(errno) => self.end(Outcome::OutputLost(errno)),
            // Lost: QEMU is about to end, and knows why.
            State::Booting | State::Running | State::Lost => {}
        }
        let runs = matches!(session.state(), State::Running);
        if let Some(number) = command.broker.serve(&mut self.qmp, runs) {
            session.say(ToGuest::Session(number));
        }
        if session.was_escaped() {
            self.end(Outcome::Escaped);
        }
        Ok(())
    }

    /// Starts a boot again that is stuck in the kernel, once: QEMU 7.2 with two
    /// processors of its own now and then goes on executing the int3 that stood for
    /// an instruction while the other one patched it.
    fn watch_boot(&mut self, command: &Command<'_>, console: &mut Console) {
        let is_first = self.boot == self.start && self.outcome.is_none();
        if !(is_first && command.boots() && console.tells_of_lockup()) {
            return;
        }
        self.boot = Instant::now();
        // Where it cannot be reset the boot's limit ends it.
        if self.qmp.reset().is_ok() {
            log::warn!("the guest's kernel is stuck; it is started again");
        }
    }

    /// Ends a machine that has halted, as if it had powered off: nothing more will
    /// happen in it.
    fn watch_halt(&mut self) {
        if self.outcome.is_none() && self.halt.look(&mut self.qmp) {
            log::warn!("the guest has halted; its machine is ended");
            self.end(Outcome::Halted);
        }
    }

    fn watch_clock(&mut self, command: Option<&Command<'_>>) {
        let now = Instant::now();
        if let Some(limit) = self.limit.passed() {
            self.end(Outcome::TimedOut(limit));
        }
        let boots = command.is_some_and(Command::boots);
        if boots && now >= self.boot + BOOT_LIMIT {
            self.end(Outcome::Silent(BOOT_LIMIT));
        }
        if let Some((signal, Some(limit))) = self.passed_on
            && now >= limit
        {
            self.end(Outcome::Stopped(signal));
        }
    }

    /// At a machine's end its daemons may be quicker than QEMU.
    fn watch_daemons(&mut self) -> Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        if let Some(dead) = self.first_daemon(|_| true)? {
            self.qmp.read();
            if !self.has_ended() {
                self.end(dead);
            }
        }
        Ok(())
    }

    /// Whether QEMU has said that the machine ended.
    fn has_ended(&self) -> bool {
        self.qmp.shutdown().is_some() || self.qmp.fd().is_none()
    }

    fn first_daemon(&mut self, is_it: fn(ExitStatus) -> bool) -> Result<Option<Outcome>> {
        for daemon in &mut self.daemons {
            if let Some(status) = daemon.try_wait()?.filter(|status| is_it(*status)) {
                let (name, words) = (daemon.name.clone(), daemon.messages());
                return Ok(Some(Outcome::DaemonDied(name, describe(status), words)));
            }
        }
        Ok(None)
    }

    /// Daemons end with their connection, and wait for children of their own;
    /// one that does not is killed when it is dropped.
    fn let_daemons_end(&mut self) -> Result<()> {
        let deadline = Instant::now() + DAEMON_GRACE;
        self.deadline = Some(deadline);
        loop {
            self.signals.take()?;
            let mut running = false;
            for daemon in &mut self.daemons {
                running |= daemon.try_wait()?.is_none();
            }
            if !running || deadline <= Instant::now() {
                return Ok(());
            }
            sleep(&[(self.signals.fd(), false)], Some(deadline))?;
        }
    }

    /// Sleeps until something happens.
    fn wait(&self, command: Option<&Command<'_>>, console: Option<&Console>) -> Result<()> {
        let mut fds = vec![(self.signals.fd(), false)];
        fds.extend(self.qmp.fd().map(|fd| (fd, false)));
        fds.extend(console.and_then(Console::fd).map(|fd| (fd, false)));
        fds.extend(command.iter().flat_map(|command| command.fds()));
        let boots = command.is_some_and(Command::boots);
        let deadlines = [
            self.deadline,
            self.limit.end().filter(|_| self.deadline.is_none()),
            (boots && self.deadline.is_none()).then(|| self.boot + BOOT_LIMIT),
            self.passed_on.filter(|_| self.deadline.is_none()).and_then(|(_, limit)| limit),
            (command.is_none() && self.deadline.is_none()).then(|| self.halt.next()),
        ];
        sleep(&fds, deadlines.into_iter().flatten().min())
    }
}

impl Command<'_> {
    fn boots(&self) -> bool {
        *self.foreground.session.state() == State::Booting
    }

    fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let broker = self.broker.fds().map(|fd| (fd, false));
        self.foreground.session.fds().into_iter().chain(broker)
    }
}

/// Waits until one of `fds` is readable, or writable where that is wanted too.
pub fn sleep(fds: &[(BorrowedFd<'_>, bool)], deadline: Option<Instant>) -> Result<()> {
    let flags = |writable| if writable { PollFlags::POLLOUT } else { PollFlags::empty() };
    let mut fds: Vec<_> = fds
        .iter()
        .map(|(fd, writable)| PollFd::new(*fd, PollFlags::POLLIN | flags(*writable)))
        .collect();
    let timeout = match deadline {
        None => PollTimeout::NONE,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the deadline has passed afterwards.
            let millis = left.as_millis().saturating_add(1).min(i32::MAX as u128);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("poll"),
    }
}
