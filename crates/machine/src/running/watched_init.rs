//! INIT of a machine: its console, its terminal, and its end.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::halt::HaltDetector;
use super::outcome::Outcome;
use super::registers::{RegisterBit, Width};
use crate::process::qmp::Qmp;
use crate::process::signals::is_end;
use crate::process::wait::Awaited;
use crate::session::console_relay::{ConsoleRelay, GuestReset};
use crate::session::panic_page::Pid1End;
use crate::session::terminal::RawTerminal;

/// Interval at which chrootvm looks whether the guest has opened its console.
const OPEN_TICK: Duration = Duration::from_millis(50);

/// Set while the guest reads its console: the interrupt for received bytes of the first serial
/// port (`UART_IER_RDI` of include/uapi/linux/serial_reg.h).
const CONSOLE_READS: RegisterBit = RegisterBit { port: 0x3f9, width: Width::Byte, mask: 1 };

/// INIT and the values that only a machine with INIT has.
#[derive(Debug)]
pub struct WatchedInit {
    relay: ConsoleRelay,
    terminal: Option<RawTerminal>,
    halt: HaltDetector,
    /// Time of the next look at the console.
    next_look: Instant,
}

impl WatchedInit {
    /// INIT on `relay`. If standard input is a terminal, it becomes raw, so that every key goes
    /// to QEMU and the guest.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn new(mut relay: ConsoleRelay, mut terminal: Option<RawTerminal>) -> Result<Self> {
        if let Some(terminal) = &mut terminal {
            terminal.enter()?;
            // QEMU handles some keys itself, and shows the guest's progress meanwhile.
            relay.opened();
        }
        Ok(Self { relay, terminal, halt: HaltDetector::new(), next_look: Instant::now() })
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
        Ok(None)
    }

    /// Lets input through once the guest has opened its console.
    fn watch_opening(&mut self, qmp: &mut Qmp) {
        if !self.relay.is_unopened() || Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + OPEN_TICK;
        // A QEMU that does not answer is about to end, or has no such command; then input
        // arrives as soon as possible.
        if CONSOLE_READS.is_set(qmp).unwrap_or(true) {
            self.relay.opened();
        }
    }

    /// Handles a signal to chrootvm. Returns the signal if chrootvm has to end by it.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn handle(&mut self, signal: Signal) -> Result<Option<Signal>> {
        if signal == Signal::SIGCONT {
            self.resume()?;
        }
        Ok(Some(signal).filter(|signal| is_end(*signal)))
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
        match self.relay.is_unopened() {
            true => self.next_look.min(self.halt.next()),
            false => self.halt.next(),
        }
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
