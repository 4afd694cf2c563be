//! Standard input's settings, put back however QEMU ended.
//!
//! Interfaces: tcsetattr(3), fcntl(2). QEMU makes a terminal raw and its input
//! non-blocking; it restores both itself, but not when it is killed, and both
//! belong to everybody who shares the open file.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Settings of standard input at some time; restored on drop.
#[derive(Debug)]
pub struct Saved {
    /// `None` where it is no terminal.
    terminal: Option<Termios>,
    /// `None` where it is closed.
    flags: Option<OFlag>,
}

impl Saved {
    /// Remembers the settings of now.
    #[must_use]
    pub fn new() -> Self {
        let stdin = std::io::stdin();
        let flags = fcntl(&stdin, FcntlArg::F_GETFL).ok();
        Self { terminal: tcgetattr(&stdin).ok(), flags: flags.map(OFlag::from_bits_retain) }
    }
}

impl Default for Saved {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        let stdin = std::io::stdin();
        // What has gone meanwhile needs no settings.
        if let Some(settings) = &self.terminal {
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, settings); // see above
        }
        if let Some(flags) = self.flags {
            let _ = fcntl(&stdin, FcntlArg::F_SETFL(flags)); // see above
        }
    }
}
