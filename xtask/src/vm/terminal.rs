//! The terminal's settings, put back however QEMU ended.
//!
//! Interface: tcsetattr(3). QEMU restores them itself, but not when it is
//! killed.

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Settings of standard input at some time; restored on drop. `None` where it
/// is no terminal.
#[derive(Debug)]
pub struct Saved(Option<Termios>);

impl Saved {
    /// Remembers the settings of now.
    #[must_use]
    pub fn new() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }
}

impl Default for Saved {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // A terminal that has gone needs no settings.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, settings);
        }
    }
}
