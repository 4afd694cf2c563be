//! Settings of standard input, restored however a run ends.
//!
//! Interfaces: termios(3), fcntl(2). All programs on a terminal share its settings, so a
//! program that makes it raw must restore it. If chrootvm is killed by SIGKILL, a small
//! process that outlives it (`Guardian`) restores the terminal.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use proto::settings::Size;
use terminal_size::{Height, Width, terminal_size_of};

/// Name of the subcommand that runs [`guard`].
pub const SUBCOMMAND: &str = "guard-terminal";

/// Message of the guardian once it has read the settings, and message to the guardian when
/// it is not needed any more.
const READY: [u8; 1] = [b'.'];

/// Saved settings of standard input; dropping this value restores them.
#[derive(Debug)]
pub struct SavedTerminal {
    /// `None` if standard input is no terminal.
    terminal: Option<Termios>,
    /// `None` if standard input is closed.
    flags: Option<OFlag>,
}

impl SavedTerminal {
    /// Saves the present settings.
    #[must_use]
    pub fn new() -> Self {
        let stdin = std::io::stdin();
        let flags = fcntl(&stdin, FcntlArg::F_GETFL).ok();
        Self { terminal: tcgetattr(&stdin).ok(), flags: flags.map(OFlag::from_bits_retain) }
    }

    fn restore(&self) {
        let stdin = std::io::stdin();
        // Errors are ignored: a terminal that is gone needs no settings.
        if let Some(settings) = &self.terminal {
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, settings); // see above
        }
        if let Some(flags) = self.flags {
            let _ = fcntl(&stdin, FcntlArg::F_SETFL(flags)); // see above
        }
    }
}

impl Default for SavedTerminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The terminal of a command in the guest; it becomes raw when the command runs.
#[derive(Debug)]
pub struct RawTerminal {
    guardian: Guardian,
    entered: bool,
    /// Restored before the guardian is dismissed.
    saved: SavedTerminal,
}

impl RawTerminal {
    /// Starts the guardian and saves the settings.
    ///
    /// # Errors
    /// The guardian cannot be started.
    pub fn prepare() -> Result<Self> {
        Ok(Self { guardian: Guardian::start()?, entered: false, saved: SavedTerminal::new() })
    }

    /// Makes the terminal raw, so that every key goes to the guest. In the background nothing
    /// happens until [`RawTerminal::resume`].
    ///
    /// # Errors
    /// The guardian ended, or the settings cannot be changed.
    pub fn enter(&mut self) -> Result<()> {
        if !self.entered {
            self.guardian.wait_until_ready()?;
            self.entered = true;
        }
        self.apply()
    }

    /// Makes the terminal raw again: another program may have changed the settings while
    /// chrootvm was stopped or in the background.
    ///
    /// # Errors
    /// The settings cannot be changed.
    pub fn resume(&self) -> Result<()> {
        if self.entered { self.apply() } else { Ok(()) }
    }

    fn apply(&self) -> Result<()> {
        let Some(settings) = &self.saved.terminal else { return Ok(()) };
        // In the background the terminal belongs to another job. The return to the foreground
        // calls this again.
        if is_background(std::io::stdin()) {
            return Ok(());
        }
        let mut raw = settings.clone();
        cfmakeraw(&mut raw);
        let set = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        set.context("make the terminal raw")
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.saved.restore();
        self.guardian.dismiss();
    }
}

/// A process that restores the terminal if chrootvm ends without dismissing it.
#[derive(Debug)]
struct Guardian {
    process: Child,
    stream: UnixStream,
}

impl Guardian {
    fn start() -> Result<Self> {
        let (stream, theirs) = UnixStream::pair().context("make a socket")?;
        let mut command = Command::new("/proc/self/exe");
        // Standard input is the terminal, standard output the socket.
        command.arg(SUBCOMMAND).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
        // In a process group of its own, so that a signal to our group does not end it.
        let process = command.process_group(0).spawn().context("start the terminal's guardian")?;
        Ok(Self { process, stream })
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut word = READY;
        self.stream.read_exact(&mut word).context("wait for the terminal's guardian")
    }

    fn dismiss(&mut self) {
        // Errors are ignored: the guardian may have ended.
        let _ = self.stream.write_all(&READY);
        let _ = self.process.wait();
    }
}

/// Body of [`SUBCOMMAND`]: waits until the parent ends, and restores the terminal unless the
/// parent dismissed it before.
///
/// # Errors
/// Standard output is not the parent's socket.
pub fn guard() -> Result<()> {
    let saved = SavedTerminal::new();
    let stream = std::io::stdout().as_fd().try_clone_to_owned().context("copy a descriptor")?;
    let mut stream = UnixStream::from(stream);
    stream.write_all(&READY)?;
    let mut word = READY;
    if stream.read_exact(&mut word).is_ok() {
        // The parent has restored the terminal; another program may use it already.
        std::mem::forget(saved);
    }
    Ok(())
}

/// Size of the terminal on standard output, or else on standard input; `None` if neither has
/// a size.
#[must_use]
pub fn size() -> Option<Size> {
    let of_input = || terminal_size_of(std::io::stdin());
    let (Width(columns), Height(rows)) = terminal_size_of(std::io::stdout()).or_else(of_input)?;
    Some(Size { rows, columns })
}

/// Whether chrootvm is in the foreground of its terminal, and so may use it.
#[must_use]
pub fn is_foreground() -> bool {
    tcgetpgrp(std::io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

/// Whether chrootvm is in the background of `terminal`. A terminal that does not control
/// chrootvm is free to use.
#[must_use]
pub fn is_background(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != getpgrp())
}
