//! The main loop of a run: reacts to signals, QEMU, daemons, the guest and time limits, and
//! ends the machine.
//!
//! Every reason to end the machine becomes an [`Outcome`]; the first one counts.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use proto::control::ToGuest;

use super::boot_line::{self, BootLine};
use super::broker::{Broker, Order};
use super::outcome::{Outcome, RunReport};
use super::readiness::Readiness;
use super::state::MachineState;
use super::time_limit::{RunPhase, TimeLimit};
use super::timing::Timing;
use super::warm::orders::Orders;
use super::watched_daemons::WatchedDaemons;
use super::watched_init::WatchedInit;
use crate::plan::exit_status::EXIT_TROUBLE;
use crate::process::child::Child;
use crate::process::qmp::{Qmp, ShutdownCause};
use crate::process::signals::{SignalReader, is_end};
use crate::process::wait::{self, Awaited};
use crate::session::console::{Console, MachinePhase};
use crate::session::console_relay::GuestReset;
use crate::session::control::SessionState;
use crate::session::foreground::Foreground;

/// Time for QEMU to end after SIGTERM.
const QEMU_GRACE: Duration = Duration::from_secs(2);

/// Time for the daemons to end after QEMU has ended.
const DAEMON_GRACE: Duration = Duration::from_millis(500);

/// Time for the guest to start its command. A boot takes two seconds, or ten on a busy host
/// without KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// The programs of a running machine, and the state of watching them.
#[derive(Debug)]
pub struct Watch {
    signals: SignalReader,
    qmp: Qmp,
    qemu: Child,
    daemons: WatchedDaemons,
    /// Serves `chrootvm exec`, `ps` and `stop`.
    broker: Broker,
    waits: Waits,
    /// Deadline before SIGKILL for QEMU; `None` while the machine is not being ended.
    deadline: Option<Instant>,
    start: Instant,
    /// Start of the boot that is being watched; later than `start` after a reset.
    boot: Instant,
    /// The first signal that asked chrootvm to end.
    signal: Option<Signal>,
    outcome: Option<Outcome>,
}

/// Those who wait for the start or the end of a machine.
#[derive(Debug)]
pub struct Waits {
    /// The line about the boot.
    pub boot_line: BootLine,
    /// Time limit of the run.
    pub limit: TimeLimit,
    /// Those who wait until the machine is ready.
    pub readiness: Readiness,
}

/// Where a machine comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It boots.
    Boot,
    /// It was saved before it got its orders.
    Template,
}

/// The command of a machine and the values that only such a machine has.
#[derive(Debug)]
pub struct WatchedCommand<'a> {
    /// Session, terminal and passed-on signals of the command.
    pub foreground: Foreground,
    /// Times of the run.
    pub timing: &'a mut Timing,
    /// Orders for a machine that waits for them.
    pub orders: Option<Orders>,
    /// Where the machine comes from.
    pub origin: Origin,
}

impl Watch {
    /// Takes over the programs that were started.
    #[must_use]
    pub fn new(
        signals: SignalReader,
        qmp: Qmp,
        qemu: Child,
        daemons: Vec<Child>,
        broker: Broker,
        mut waits: Waits,
    ) -> Self {
        waits.limit.watched();
        let start = Instant::now();
        Self {
            signals,
            qmp,
            qemu,
            daemons: WatchedDaemons(daemons),
            broker,
            waits,
            deadline: None,
            start,
            boot: start,
            signal: None,
            outcome: None,
        }
    }

    /// Watches the machine until QEMU has ended.
    ///
    /// # Errors
    /// A system call that watches a program failed.
    pub fn until_the_end(
        mut self,
        mut command: Option<WatchedCommand<'_>>,
        mut console: Option<Console>,
        mut init: Option<WatchedInit>,
    ) -> Result<RunReport> {
        let status = loop {
            self.wait(command.as_ref(), console.as_ref(), init.as_ref())?;
            self.qmp.read();
            if let Some(console) = &mut console {
                console.read();
            }
            if let Some(command) = &mut command {
                self.watch_command(command)?;
            }
            let foreground = command.as_ref().map(|command| &command.foreground);
            let state = MachineState::of(foreground, init.as_ref());
            self.serve_clients(command.as_mut(), &state);
            self.take_signals(&state, command.as_mut(), init.as_mut())?;
            if let (Some(command), Some(console)) = (&command, &mut console) {
                self.watch_boot(command, console);
                if console.reports_halt() {
                    self.end(Outcome::Halted);
                }
            }
            // A machine that is being ended has no further reason to end, and no further message.
            if self.outcome.is_none()
                && let Some(init) = &mut init
                && let Some(outcome) = init.update(&mut self.qmp)?
            {
                self.end(outcome);
            }
            self.show_boot(command.as_ref(), console.as_ref());
            self.watch_clock(command.as_ref());
            if let Some(status) = self.qemu.try_wait()?
                && !self.waits_for_output(command.as_ref(), init.as_mut())
            {
                break status;
            }
            self.watch_daemons()?;
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.qemu.signal(Signal::SIGKILL);
            }
        };
        self.qmp.read();
        let pid_1 = init.and_then(WatchedInit::finish);
        let (outcome, signal, readiness) = self.conclude(status)?;
        let outcome = readiness.conclude(outcome.because_of(pid_1).after(signal));
        let was_ready = readiness.is_met();
        if let Some(console) = &mut console {
            console.read();
        }
        let phase = match &command {
            Some(command) if !command.timing.has_run() => MachinePhase::Booting,
            _ => MachinePhase::Booted,
        };
        let console = console.map(|console| console.last_words(phase)).unwrap_or_default();
        let shortage = command.map(|command| command.foreground.session.shortage().clone());
        let shortage = shortage.unwrap_or_default();
        Ok(RunReport { outcome, console, shortage, signal, was_ready })
    }

    /// Whether the machine has ended and some of its output is still being written.
    fn waits_for_output(
        &mut self,
        command: Option<&WatchedCommand<'_>>,
        init: Option<&mut WatchedInit>,
    ) -> bool {
        self.qmp.read();
        let reset = match self.qmp.shutdown() {
            Some(ShutdownCause::GuestReset) => GuestReset::Yes,
            _ => GuestReset::No,
        };
        let shows_console = init.is_some_and(|init| !init.conclude(reset));
        let is_delivering =
            |command: &WatchedCommand<'_>| command.foreground.session.is_delivering();
        self.outcome.is_none() && (shows_console || command.is_some_and(is_delivering))
    }

    /// Waits for the daemons after QEMU has ended with `status`. Returns the outcome, the first signal
    /// that asked chrootvm to end, and those who wait for the machine to be ready.
    fn conclude(mut self, status: ExitStatus) -> Result<(Outcome, Option<Signal>, Readiness)> {
        // A daemon that still runs at the deadline is killed when its value is dropped.
        let last = self.daemons.let_end(&mut self.signals, Instant::now() + DAEMON_GRACE)?;
        let shutdown = self.qmp.shutdown().cloned();
        if self.outcome.is_none() && shutdown.is_none() && !status.success() {
            // QEMU may have failed because a daemon failed; the daemon's message tells more.
            self.outcome =
                self.daemons.first(|status| status.code().is_some_and(|code| code != 0))?;
        }
        let words = self.qemu.messages();
        let outcome = self.outcome.unwrap_or_else(|| Outcome::of_qemu(status, &words, shutdown));
        Ok((outcome, self.signal.or(last), self.waits.readiness))
    }

    /// Ends the machine. If several outcomes are given, the first one counts.
    fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
        if self.deadline.is_none() {
            self.qemu.signal(Signal::SIGTERM);
            self.deadline = Some(Instant::now() + QEMU_GRACE);
        }
    }

    fn take_signals(
        &mut self,
        state: &MachineState,
        mut command: Option<&mut WatchedCommand<'_>>,
        mut init: Option<&mut WatchedInit>,
    ) -> Result<()> {
        let mut signals = self.signals.take()?;
        for order in self.broker.take_orders() {
            match (order, &mut command) {
                (Order::Signal(signal), _) => signals.push(signal),
                (Order::Restart, Some(command)) => {
                    command.foreground.session.send(ToGuest::Restart);
                }
                // The broker refuses it.
                (Order::Restart, None) => {}
            }
        }
        let is_ending = self.outcome.is_some()
            || command.as_ref().is_some_and(|command| command.foreground.is_ending())
            || init.as_ref().is_some_and(|init| init.is_ending());
        signals.extend(self.waits.readiness.update(state, is_ending));
        self.signal = self.signal.or(signals.iter().copied().find(|signal| is_end(*signal)));
        for signal in signals {
            let ends = match (&mut command, &mut init) {
                (Some(command), _) => command.foreground.handle(signal)?,
                (None, Some(init)) => init.handle(signal, &mut self.qmp)?,
                (None, None) => None,
            };
            if let Some(signal) = ends {
                self.end(Outcome::Stopped(signal));
            }
        }
        Ok(())
    }

    fn watch_command(&mut self, command: &mut WatchedCommand<'_>) -> Result<()> {
        command.foreground.update()?;
        let session = &mut command.foreground.session;
        if session.take_ready()
            && let Some(orders) = &mut command.orders
            && let Err(error) = orders.give(&mut self.qmp, session)
        {
            self.end(Outcome::NotStarted(EXIT_TROUBLE, format!("{error:#}")));
        }
        command.timing.note(session.started(), session.state());
        match session.state().clone() {
            SessionState::Ended(status) => {
                self.outcome.get_or_insert(Outcome::Command(status));
                // The guest has written and synced everything, so it need not shut down.
                self.qemu.signal(Signal::SIGKILL);
            }
            SessionState::Failed(status, problem) => {
                self.outcome.get_or_insert(Outcome::NotStarted(status, problem));
                self.qemu.signal(Signal::SIGKILL);
            }
            SessionState::Unwritten(errno) => self.end(Outcome::OutputLost(errno)),
            // After `Lost`, QEMU is about to end and to tell why.
            SessionState::Booting | SessionState::Running | SessionState::Lost => {}
        }
        if session.was_escaped() {
            self.end(Outcome::Escaped);
        }
        Ok(())
    }

    /// Serves other chrootvm processes. A new session is announced to the guest.
    fn serve_clients(&mut self, command: Option<&mut WatchedCommand<'_>>, state: &MachineState) {
        let is_running = command.as_ref().is_some_and(|command| command.foreground.is_running());
        let session = self.broker.serve(&mut self.qmp, state, is_running);
        if let (Some(number), Some(command)) = (session, command) {
            command.foreground.session.send(ToGuest::Session(number));
        }
    }

    /// Resets the machine once if its kernel is stuck during the boot. QEMU 7.2 with two
    /// emulated processors has a bug: while one processor patches an instruction, the other
    /// sometimes goes on executing the int3 that replaces it for a moment.
    fn watch_boot(&mut self, command: &WatchedCommand<'_>, console: &mut Console) {
        // A machine of a template has no kernel to start again.
        let boots = command.origin == Origin::Boot;
        let is_first = boots && self.boot == self.start && self.outcome.is_none();
        if !(is_first && command.foreground.is_booting() && console.reports_lockup()) {
            return;
        }
        self.boot = Instant::now();
        // If the machine cannot be reset, the limit of the boot ends it.
        if self.qmp.reset().is_ok() {
            log::warn!("the guest's kernel is stuck; it is started again");
        }
    }

    /// Shows that the machine boots, until the command starts, INIT's console has text, or the
    /// machine is being ended.
    fn show_boot(&mut self, command: Option<&WatchedCommand<'_>>, console: Option<&Console>) {
        let state = || match console {
            Some(console) => console.last_line().unwrap_or_else(|| boot_line::SILENT.into()),
            None => boot_line::EMPTY_CONSOLE.into(),
        };
        let is_booting = command.is_none_or(|command| command.foreground.is_booting());
        match is_booting && self.outcome.is_none() {
            true => self.waits.boot_line.update(state),
            false => self.waits.boot_line.end(),
        }
    }

    fn watch_clock(&mut self, command: Option<&WatchedCommand<'_>>) {
        let now = Instant::now();
        let is_booting = command.is_some_and(|command| command.foreground.is_booting());
        let phase = if is_booting { RunPhase::Booting } else { RunPhase::Running };
        if let Some(problem) = self.waits.limit.passed(phase) {
            self.end(Outcome::TimedOut(problem));
        }
        if is_booting && now >= self.boot + BOOT_LIMIT {
            self.end(Outcome::Silent(BOOT_LIMIT));
        }
        if let Some(signal) = command.and_then(|command| command.foreground.expired()) {
            self.end(Outcome::Stopped(signal));
        }
    }

    /// Ends the machine if a daemon has ended before it. When the machine ends, its daemons may
    /// end earlier than QEMU.
    fn watch_daemons(&mut self) -> Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        if let Some(dead) = self.daemons.first(|_| true)? {
            self.qmp.read();
            if !self.has_ended() {
                self.end(dead);
            }
        }
        Ok(())
    }

    /// Whether QEMU has reported the end of the machine.
    fn has_ended(&self) -> bool {
        self.qmp.shutdown().is_some() || self.qmp.fd().is_none()
    }

    /// Sleeps until a descriptor is ready or the next deadline has passed.
    fn wait(
        &self,
        command: Option<&WatchedCommand<'_>>,
        console: Option<&Console>,
        init: Option<&WatchedInit>,
    ) -> Result<()> {
        let mut fds = vec![Awaited::readable(self.signals.fd())];
        fds.extend(self.qmp.fd().map(Awaited::readable));
        fds.extend(console.and_then(Console::fd).map(Awaited::readable));
        fds.extend(self.broker.awaited());
        fds.extend(command.iter().flat_map(|command| command.foreground.session.awaited()));
        fds.extend(init.map(WatchedInit::awaited));
        fds.extend(self.waits.readiness.awaited());
        let is_booting = command.is_some_and(|command| command.foreground.is_booting());
        let grace = command.and_then(|command| command.foreground.deadline());
        let deadlines = [
            self.deadline,
            self.waits.limit.end().filter(|_| self.deadline.is_none()),
            (is_booting && self.deadline.is_none()).then(|| self.boot + BOOT_LIMIT),
            grace.filter(|_| self.deadline.is_none()),
            init.filter(|_| self.deadline.is_none()).map(WatchedInit::next),
            self.waits.boot_line.next(),
        ];
        wait::sleep(&fds, deadlines.into_iter().flatten().min())
    }
}
