//! Machines in the background: the chrootvm that a user starts, and the one that runs the machine.
//!
//! The first one, the starter, executes its own program again as [`SUBCOMMAND`], in a session of its
//! own (setsid(2)), and waits. The second one sends `READY` when its machine is ready. The starter
//! prints the name of the machine, answers `LEFT`, and exits. Until that answer, the end of the
//! starter, however it ends, ends the machine: the socket between them is closed then, and before
//! the second one watches its socket, the kernel kills it (`PR_SET_PDEATHSIG`, prctl(2)).

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, setsid};

use crate::plan::exit_status::{EXIT_SIGNAL, EXIT_TROUBLE};
use crate::process::notify::NOTIFY_SOCKET;
use crate::process::wait::Awaited;

/// Name of the subcommand that runs a machine in the background. Its arguments are the process id of
/// the starter, and the arguments of the starter.
pub const SUBCOMMAND: &str = "run-detached";

/// Message that the machine is ready.
const READY: [u8; 1] = [b'r'];

/// Answer that the starter ends, and leaves the machine alone.
const LEFT: [u8; 1] = [b'l'];

/// The chrootvm that runs the machine, for its starter.
#[derive(Debug)]
pub struct Background {
    process: Child,
    stream: UnixStream,
}

/// How the wait of a starter has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The machine is ready.
    Ready,
    /// chrootvm has ended before with this exit status, which it has explained.
    Ended(u8),
    /// This signal has killed chrootvm before; the exit status is 128 and its number.
    Killed(i32),
}

impl Background {
    /// Starts a chrootvm with these `arguments` in the background. Standard error stays that of the
    /// starter until the machine is ready.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(arguments: impl Iterator<Item = OsString>) -> Result<Self> {
        let (stream, theirs) = UnixStream::pair().context("make a socket")?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).arg(std::process::id().to_string()).args(arguments);
        // A service manager listens to the process that it has started, not to this one.
        command.env_remove(NOTIFY_SOCKET);
        command.stdin(Stdio::null()).stdout(OwnedFd::from(theirs));
        let process = command.spawn().context("start chrootvm in the background")?;
        Ok(Self { process, stream })
    }

    /// Process id of the chrootvm that runs the machine.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the machine is ready, or its chrootvm has ended.
    ///
    /// # Errors
    /// A system call failed.
    pub fn wait(&mut self) -> Result<Started> {
        let mut word = [0; READY.len()];
        match self.stream.read_exact(&mut word) {
            Ok(()) => return Ok(Started::Ready),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error).context("wait for the machine"),
        }
        Ok(ended(self.process.wait().context("wait for chrootvm in the background")?))
    }

    /// Leaves the machine alone.
    pub fn leave(mut self) {
        let _ = self.stream.write_all(&LEFT); // an error: the machine has ended meanwhile
    }
}

impl Started {
    /// Exit status of the starter.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Ended(status) => status,
            Self::Killed(signal) => u8::try_from(signal)
                .map_or(EXIT_TROUBLE, |signal| EXIT_SIGNAL.saturating_add(signal)),
        }
    }
}

/// The end of a chrootvm whose machine was not ready.
fn ended(status: ExitStatus) -> Started {
    match (status.signal(), status.code().map(u8::try_from)) {
        (Some(signal), _) => Started::Killed(signal),
        // chrootvm succeeds only if its machine was ready.
        (None, Some(Ok(status @ 1..))) => Started::Ended(status),
        (None, _) => Started::Ended(EXIT_TROUBLE),
    }
}

/// The starter, for the chrootvm that runs the machine.
#[derive(Debug)]
pub struct Starter(UnixStream);

/// What a starter has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StarterNews {
    /// It waits.
    Waits,
    /// It has answered that the machine is on its own now.
    Left,
    /// It has ended without that answer.
    Gone,
}

impl Starter {
    /// To be called first in a process of [`SUBCOMMAND`], with the process id of the starter. The
    /// process leaves the session of the starter, and has no standard input and output.
    ///
    /// # Errors
    /// The starter has ended, or a system call failed.
    pub fn meet(pid: i32) -> Result<Self> {
        set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
        ensure!(
            Pid::parent() == Pid::from_raw(pid),
            "the chrootvm that waits for this one is gone"
        );
        setsid().context("begin a session")?;
        // Without a copy, all children would inherit the socket.
        let socket = std::io::stdout().as_fd().try_clone_to_owned().context("copy a descriptor")?;
        dup2_stdout(nowhere()?).context("replace standard output")?;
        Self::on(socket)
    }

    /// A starter at the other end of `socket`.
    fn on(socket: OwnedFd) -> Result<Self> {
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Self(stream))
    }

    /// Lets the process live on when its starter ends: [`Starter::news`] is asked from now on.
    ///
    /// # Errors
    /// prctl(2) failed.
    pub fn watch(&self) -> Result<()> {
        set_pdeathsig(None).context("prctl(PR_SET_PDEATHSIG)")
    }

    /// Tells the starter that the machine is ready.
    pub fn ready(&mut self) {
        let _ = self.0.write_all(&READY); // an error: the starter is gone, which its news tell
    }

    /// What the starter has done since the last call.
    pub fn news(&mut self) -> StarterNews {
        match self.0.read(&mut [0]) {
            Ok(0) => StarterNews::Gone,
            Ok(_) => StarterNews::Left,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => StarterNews::Waits,
                _ => StarterNews::Gone,
            },
        }
    }

    /// Descriptor to wait for.
    #[must_use]
    pub fn awaited(&self) -> Awaited<'_> {
        Awaited::readable(self.0.as_fd())
    }
}

/// Gives up the standard error of the starter, which is the user's.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn leave_standard_error() -> Result<()> {
    dup2_stderr(nowhere()?).context("replace standard error")
}

/// The file to which a machine in the background writes.
fn nowhere() -> Result<File> {
    File::options().write(true).open("/dev/null").context("open /dev/null")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starter_leaves_the_machine_or_is_gone() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut starter = Starter::on(ours.into()).unwrap();
        assert_eq!(starter.news(), StarterNews::Waits);
        starter.ready();
        let mut word = [0; 1];
        theirs.read_exact(&mut word).unwrap();
        assert_eq!((word, starter.news()), (READY, StarterNews::Waits));
        theirs.write_all(&LEFT).unwrap();
        assert_eq!(starter.news(), StarterNews::Left);
        drop(theirs);
        assert_eq!(starter.news(), StarterNews::Gone);
        starter.ready(); // no signal
    }

    #[test]
    fn the_end_of_a_machine_that_was_not_ready_is_a_failure() {
        for (wait_status, started, status) in [
            (7 << 8, Started::Ended(7), 7),
            (0, Started::Ended(EXIT_TROUBLE), EXIT_TROUBLE),
            (9, Started::Killed(9), 137),
        ] {
            let found = ended(ExitStatus::from_raw(wait_status));
            assert_eq!((found, found.exit_status()), (started, status));
        }
    }
}
