//! INIT of a machine: its console, its terminal, and its end.
//!
//! SIGTERM and SIGHUP press the power button of the machine, if the guest listens to it.

pub mod halt;

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::json;

use halt::HaltDetector;

use super::outcome::Outcome;
use crate::plan::architecture::Architecture;
use crate::plan::registers::RegisterBit;
use crate::process::qmp::Qmp;
use crate::process::signals::is_end;
use crate::process::wait::Awaited;
use crate::session::console_relay::{ConsoleRelay, GuestReset};
use crate::session::panic_page::Pid1End;
use crate::session::passed_on::PassedOnSignal;
use crate::session::terminal::RawTerminal;

/// Interval at which chrootvm looks whether the guest has opened its console.
const OPEN_TICK: Duration = Duration::from_millis(50);

/// Time for QEMU to say whether the guest listens to its power button.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// INIT and the values that only a machine with INIT has.
#[derive(Debug)]
pub struct WatchedInit {
    architecture: &'static Architecture,
    relay: ConsoleRelay,
    terminal: Option<RawTerminal>,
    halt: HaltDetector,
    look: Look,
    /// Time at which the guest has opened its console; `None` if it has not.
    since: Option<Instant>,
    power_off: PowerOff,
}

/// State of the watch for the guest to open its console.
#[derive(Debug)]
enum Look {
    /// The next question is due then.
    Due(Instant),
    /// QEMU has not answered this question yet.
    Asked(u64),
}

/// State of a power-off that a signal has asked for.
#[derive(Debug)]
enum PowerOff {
    /// No signal has asked for it.
    Unasked,
    /// QEMU was asked whether the guest listens to its power button.
    Asked {
        signal: Signal,
        question: u64,
        /// Time at which a QEMU that has not answered is ended.
        deadline: Instant,
    },
    /// The button was pressed.
    Pressed(PassedOnSignal),
}

impl WatchedInit {
    /// INIT on `relay`, in a machine of `architecture`. If standard input is a terminal, it becomes
    /// raw, so that every key goes to QEMU and the guest.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn new(
        architecture: &'static Architecture,
        mut relay: ConsoleRelay,
        mut terminal: Option<RawTerminal>,
    ) -> Result<Self> {
        if let Some(terminal) = &mut terminal {
            terminal.enter()?;
            // QEMU handles some keys itself, and shows the guest's progress meanwhile.
            relay.opened();
        }
        let (halt, look) = (HaltDetector::new(), Look::Due(Instant::now()));
        let power_off = PowerOff::Unasked;
        Ok(Self { architecture, relay, terminal, halt, look, since: None, power_off })
    }

    /// Time at which the guest has opened its console, as INIT does; `None` if it has not.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether a signal has asked the guest to power off.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        !matches!(self.power_off, PowerOff::Unasked)
    }

    /// Handles everything that has happened since the last call. Returns an outcome if the
    /// machine has to end.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn update(&mut self, qmp: &mut Qmp) -> Result<Option<Outcome>> {
        if self.relay.take_foreground() {
            self.resume()?;
        }
        self.watch_opening(qmp);
        if let Some(errno) = self.relay.broken() {
            return Ok(Some(Outcome::OutputLost(errno)));
        }
        if self.halt.is_halted(qmp) {
            log::warn!("the guest has halted; its machine is ended");
            return Ok(Some(Outcome::Halted));
        }
        Ok(self.watch_power_off(qmp).map(Outcome::Stopped))
    }

    /// Lets input through once the guest has opened its console.
    fn watch_opening(&mut self, qmp: &mut Qmp) {
        if self.since.is_some() {
            return;
        }
        let now = Instant::now();
        let reads = self.architecture.console_reads;
        let is_open = match self.look {
            Look::Due(due) if due > now => return,
            Look::Due(_) => match reads.and_then(|bit| qmp.send_monitor(&bit.question()).ok()) {
                Some(question) => {
                    self.look = Look::Asked(question);
                    return;
                }
                None => None,
            },
            Look::Asked(question) => match qmp.take_text(question) {
                Some(answer) => reads.and_then(|bit| bit.is_set(&answer)),
                None => return,
            },
        };
        self.look = Look::Due(now + OPEN_TICK);
        // Without an answer, no register tells, or QEMU is about to end, or has no such command;
        // then input arrives as soon as possible.
        if is_open.unwrap_or(true) {
            self.since = Some(now);
            self.relay.opened();
        }
    }

    /// Presses the power button once QEMU has said that the guest listens to it. Returns the
    /// signal if chrootvm has to end by it.
    fn watch_power_off(&mut self, qmp: &mut Qmp) -> Option<Signal> {
        let now = Instant::now();
        match &self.power_off {
            PowerOff::Unasked => None,
            PowerOff::Pressed(passed_on) => {
                let expired = passed_on.expired(now);
                if expired.is_some() {
                    log::warn!(
                        "the guest has not powered off; its machine is ended (systemd needs dbus \
                         and systemd-logind for that)"
                    );
                }
                expired
            }
            &PowerOff::Asked { signal, question, deadline } => {
                let Some(answer) = qmp.take_text(question) else {
                    return (deadline <= now).then_some(signal);
                };
                let works = self.architecture.power_button_works;
                let is_heard = works.is_some_and(|bit| bit.is_set(&answer) == Some(true));
                // A press that nobody hears would leave the signal without effect.
                if !is_heard || qmp.send("system_powerdown", &json!({}), None).is_err() {
                    return Some(signal);
                }
                log::info!(
                    "chrootvm: {signal}: asked the guest to power off; another signal ends the \
                     machine at once"
                );
                self.power_off = PowerOff::Pressed(PassedOnSignal::to_power_button(signal, now));
                None
            }
        }
    }

    /// Handles a signal to chrootvm. Returns the signal if chrootvm has to end by it.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn handle(&mut self, signal: Signal, qmp: &mut Qmp) -> Result<Option<Signal>> {
        match signal {
            Signal::SIGCONT => self.resume()?,
            Signal::SIGTERM | Signal::SIGHUP if matches!(self.power_off, PowerOff::Unasked) => {
                let question = self.architecture.power_button_works.map(RegisterBit::question);
                // Without a question there is no button; without an answer, QEMU has ended.
                let asked = question.and_then(|question| qmp.send_monitor(&question).ok());
                let Some(question) = asked else { return Ok(Some(signal)) };
                let deadline = Instant::now() + ANSWER_LIMIT;
                self.power_off = PowerOff::Asked { signal, question, deadline };
            }
            signal if is_end(signal) => return Ok(Some(signal)),
            _ => {}
        }
        Ok(None)
    }

    /// Makes the terminal raw again: another program may have changed it while chrootvm was
    /// stopped or in the background.
    fn resume(&self) -> Result<()> {
        self.terminal.as_ref().map_or(Ok(()), RawTerminal::resume)
    }

    /// Descriptor to wait for.
    #[must_use]
    pub fn awaited(&self) -> Awaited<'_> {
        Awaited::readable(self.relay.fd())
    }

    /// Time at which [`WatchedInit::update`] is due.
    #[must_use]
    pub fn next(&self) -> Instant {
        let look = match self.look {
            Look::Due(due) if self.since.is_none() => Some(due),
            _ => None,
        };
        let deadline = match &self.power_off {
            PowerOff::Unasked => None,
            PowerOff::Asked { deadline, .. } => Some(*deadline),
            PowerOff::Pressed(passed_on) => passed_on.deadline(),
        };
        look.into_iter().chain(deadline).fold(self.halt.next(), Instant::min)
    }

    /// To be called when QEMU has ended. Returns whether all text of the console is written.
    pub fn conclude(&mut self, reset: GuestReset) -> bool {
        self.relay.conclude(reset)
    }

    /// Restores the terminal. Returns how PID 1 has ended, if that has ended the machine.
    #[must_use]
    pub fn finish(self) -> Option<Pid1End> {
        let Self { relay, terminal, .. } = self;
        let end = relay.finish();
        drop(terminal);
        end
    }
}
