//! A session that has our standard streams, and our terminal if it wants one.

use anyhow::Result;

use super::terminal::{self, Raw};
use crate::session::{Session, State};

/// The session that a person, or a script, deals with.
#[derive(Debug)]
pub struct Foreground {
    /// The session.
    pub session: Session,
    terminal: Option<Raw>,
}

impl Foreground {
    /// Puts `session` in front; with its terminal, where it has one.
    #[must_use]
    pub fn new(session: Session, terminal: Option<Raw>) -> Self {
        Self { session, terminal }
    }

    /// Whether the command runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.session.state(), State::Running)
    }

    /// Takes in all that has happened. The terminal is the command's as soon as
    /// it runs: until then Ctrl-C ends the boot.
    pub fn update(&mut self) -> Result<()> {
        let was_running = self.is_running();
        self.session.update();
        if self.is_running() && !was_running {
            if let Some(terminal) = &mut self.terminal {
                terminal.enter()?;
            }
            // Not before: it would be shown with line ends of its own.
            self.session.show_output();
            // It may have changed while the machine booted.
            self.resize();
        }
        // A shell that moves a running job to the front sends no SIGCONT.
        if self.session.take_foreground() && self.is_running() {
            self.resume()?;
        }
        Ok(())
    }

    /// After a stop and continue of ours, or a time in the background.
    pub fn resume(&mut self) -> Result<()> {
        if let Some(terminal) = &self.terminal {
            terminal.resume()?;
        }
        self.resize();
        Ok(())
    }

    /// Tells the command the size of our terminal.
    pub fn resize(&mut self) {
        if let Some(size) = self.terminal.as_ref().and_then(|_| terminal::size()) {
            self.session.resize(size);
        }
    }
}
