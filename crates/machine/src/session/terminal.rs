//! Standard input's settings, put back however a run ends.
//!
//! Interfaces: termios(3), fcntl(2). Of a terminal the settings belong to
//! everybody who uses it. A program that makes it raw must restore it, and when
//! it is killed by SIGKILL somebody else has to: a small process that outlives
//! it (`Guardian`).

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use virtinitrd_proto::settings::Size;

/// Name of the subcommand that a `Guardian` is.
pub const SUBCOMMAND: &str = "guard-terminal";

/// What the guardian says once it knows the settings, and hears when it is not
/// needed any more.
const READY: [u8; 1] = [b'.'];

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

    fn restore(&self) {
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

impl Default for Saved {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The terminal of a command in the guest: raw once the command runs.
#[derive(Debug)]
pub struct Raw {
    guardian: Guardian,
    entered: bool,
    /// Dropped before the guardian is told to leave.
    saved: Saved,
}

impl Raw {
    /// Prepares for raw mode.
    pub fn prepare() -> Result<Self> {
        Ok(Self { guardian: Guardian::start()?, entered: false, saved: Saved::new() })
    }

    /// Makes the terminal raw, as soon as it is ours: every key goes to the guest.
    pub fn enter(&mut self) -> Result<()> {
        if !self.entered {
            self.guardian.wait_until_ready()?;
            self.entered = true;
        }
        self.apply()
    }

    /// After a stop and continue of this process, or a time in the background,
    /// somebody may have changed the settings.
    pub fn resume(&self) -> Result<()> {
        if self.entered { self.apply() } else { Ok(()) }
    }

    fn apply(&self) -> Result<()> {
        let Some(settings) = &self.saved.terminal else { return Ok(()) };
        // In the background it is somebody else's; whoever gives it to us calls again.
        if is_background(std::io::stdin()) {
            return Ok(());
        }
        let mut raw = settings.clone();
        cfmakeraw(&mut raw);
        let set = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        set.context("make the terminal raw")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.saved.restore();
        self.guardian.dismiss();
    }
}

/// A process that restores the terminal when we are gone without a word.
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
        // Of a group of its own: what is sent to ours must not end it.
        let process = command.process_group(0).spawn().context("start the terminal's guardian")?;
        Ok(Self { process, stream })
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut word = READY;
        self.stream.read_exact(&mut word).context("wait for the terminal's guardian")
    }

    fn dismiss(&mut self) {
        // Should it have died there is nobody to dismiss.
        let _ = self.stream.write_all(&READY);
        let _ = self.process.wait();
    }
}

/// Body of [`SUBCOMMAND`]: waits for the parent to leave, and restores the terminal if it
/// left without a word.
///
/// # Errors
/// Standard output is not the parent's socket.
pub fn guard() -> Result<()> {
    let saved = Saved::new();
    let stream = std::io::stdout().as_fd().try_clone_to_owned().context("copy a descriptor")?;
    let mut stream = UnixStream::from(stream);
    stream.write_all(&READY)?;
    let mut word = READY;
    if stream.read_exact(&mut word).is_ok() {
        // The parent has restored it; by now it may be somebody else's.
        std::mem::forget(saved);
    }
    Ok(())
}

/// The size of the terminal that standard output, or input, is; `None` where it
/// has none.
#[must_use]
pub fn size() -> Option<Size> {
    let of_input = || rustix::termios::tcgetwinsize(std::io::stdin());
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).or_else(|_| of_input()).ok()?;
    let size = Size { rows: size.ws_row, columns: size.ws_col };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

/// Whether we may use the terminal: a job in the background may not.
#[must_use]
pub fn is_foreground() -> bool {
    tcgetpgrp(std::io::stdin()).is_ok_and(|foreground| foreground == getpgrp())
}

/// Whether `terminal` is one that another job has at the moment. One that does
/// not control us is nobody's, and free to use.
#[must_use]
pub fn is_background(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != getpgrp())
}
