//! The session that uses chrootvm's standard streams, its terminal and its signals.

use std::time::Instant;

use anyhow::Result;
use files::tell;
use nix::sys::signal::Signal;

use super::control::{CommandSession, SessionState};
use super::passed_on::PassedOnSignal;
use super::terminal::{self, RawTerminal};
use crate::process::signals::is_end;

/// The session that a person or a script uses.
#[derive(Debug)]
pub struct Foreground {
    /// The session.
    pub session: CommandSession,
    terminal: Option<RawTerminal>,
    passed_on: Option<PassedOnSignal>,
}

impl Foreground {
    /// Connects `session` to the standard streams, and to `terminal` if the command has one.
    #[must_use]
    pub fn new(session: CommandSession, terminal: Option<RawTerminal>) -> Self {
        Self { session, terminal, passed_on: None }
    }

    /// Whether the command runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.session.state(), SessionState::Running)
    }

    /// Whether the guest has reported nothing yet.
    #[must_use]
    pub fn is_booting(&self) -> bool {
        *self.session.state() == SessionState::Booting
    }

    /// Handles everything that has happened since the last call. The command gets the
    /// terminal when it starts to run; until then Ctrl-C ends the boot.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn update(&mut self) -> Result<()> {
        let was_booting = self.is_booting();
        self.session.update();
        if was_booting && !self.is_booting() {
            // The output would begin behind the line about the boot.
            tell::end_status();
            let runs = self.is_running();
            if let Some(terminal) = self.terminal.as_mut().filter(|_| runs) {
                terminal.enter()?;
            }
            // A terminal that is not raw yet would change the ends of lines.
            self.session.show_output();
            // The size may have changed while the machine booted.
            self.resize();
        }
        // A shell that brings a running job to the foreground sends no SIGCONT.
        if self.session.take_foreground() && self.is_running() {
            self.resume()?;
        }
        Ok(())
    }

    /// Whether a signal has asked the command to end.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.passed_on.is_some()
    }

    /// Handles a signal to chrootvm: reacts to it, or passes it on to the command. Returns the
    /// signal if chrootvm has to end by it, because the command does not run, or because
    /// another signal was passed on before. Whatever the signal, a workload ends for good.
    ///
    /// # Errors
    /// The terminal cannot be made raw.
    pub fn handle(&mut self, signal: Signal) -> Result<Option<Signal>> {
        match signal {
            Signal::SIGWINCH if self.is_running() => self.resize(),
            Signal::SIGCONT if self.is_running() => self.resume()?,
            signal if is_end(signal) => {
                if !self.is_running() || self.passed_on.is_some() {
                    return Ok(Some(signal));
                }
                let now = Instant::now();
                let limit = self.session.workload().map(|workload| workload.state().stop_timeout);
                self.session.signal(signal);
                self.passed_on = Some(match limit {
                    Some(limit) => PassedOnSignal::to_workload(signal, limit, now),
                    None => PassedOnSignal::new(signal, now),
                });
            }
            _ => {}
        }
        Ok(None)
    }

    /// Time at which chrootvm ends without the command because of a signal; `None` for never.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.passed_on.and_then(|passed_on| passed_on.deadline())
    }

    /// The signal by which chrootvm has to end, because its deadline has passed.
    #[must_use]
    pub fn expired(&self) -> Option<Signal> {
        self.passed_on.and_then(|passed_on| passed_on.expired(Instant::now()))
    }

    /// Makes the terminal raw again, and tells the command its size: both may have changed
    /// while chrootvm was stopped or in the background.
    fn resume(&mut self) -> Result<()> {
        if let Some(terminal) = &self.terminal {
            terminal.resume()?;
        }
        self.resize();
        Ok(())
    }

    /// Tells the command the size of the terminal.
    fn resize(&mut self) {
        if let Some(size) = self.terminal.as_ref().and_then(|_| terminal::size()) {
            self.session.resize(size);
        }
    }
}
