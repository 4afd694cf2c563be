//! Standard input, output and error of a command: pipes or a pseudo-terminal.
//!
//! Interfaces: pipe(2), pts(4). Only our own ends are non-blocking.

use proto::settings::Size;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Result;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::relay::PIPE_CAPACITY;
use super::user::User;
use crate::sys::devices::Devices;

/// The session of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSession {
    /// A new session without a terminal.
    Bare,
    /// A new session, controlled by the terminal that is standard input.
    Terminal,
    /// The session of PID 1. The command's process group gets the terminal, if there is
    /// one. If the command led a session, the terminal would hang up with its end, and a
    /// serial line would lose output.
    Shared,
}

/// Our ends of the command's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// End to write standard input to.
    pub input: OwnedFd,
    /// End to read standard output from.
    pub output: OwnedFd,
    /// End to read standard error from.
    pub error: OwnedFd,
}

/// Our end of the command's terminal: one descriptor for each use.
#[derive(Debug)]
pub struct Master {
    /// Descriptor to write input to.
    pub to: OwnedFd,
    /// Descriptor to read output from.
    pub from: OwnedFd,
    /// Descriptor to set the size.
    pub control: OwnedFd,
}

/// The other ends, from which each child gets its streams. As long as they are there, our ends
/// are not at the end of the streams.
#[derive(Debug)]
pub enum ChildEnds {
    /// Three pipes, in the order of the streams.
    Pipes([OwnedFd; 3]),
    /// A descriptor of the terminal's master.
    Terminal(OwnedFd),
}

impl ChildEnds {
    /// Makes them the streams of this process, which will be one of `user`. The user may open
    /// them again as `/dev/stdout` and the like.
    pub fn take(&self, user: &User<'_>) -> Result<ProcessSession> {
        let uid = Some(Uid::from_raw(user.uid));
        match self {
            Self::Pipes(pipes) => {
                for pipe in pipes {
                    rustix::fs::fchown(pipe, uid, Some(Gid::from_raw(user.gid)))?;
                }
                take_streams(pipes.each_ref())?;
                Ok(ProcessSession::Bare)
            }
            Self::Terminal(master) => {
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                // Open the terminal through its master, because the root may have no /dev.
                let terminal = rustix::pty::ioctl_tiocgptpeer(master, flags)?;
                rustix::fs::fchown(&terminal, uid, None)?;
                take_streams([&terminal; 3])?;
                Ok(ProcessSession::Terminal)
            }
        }
    }
}

/// Makes these descriptors standard input, output and error of this process.
pub fn take_streams([input, output, error]: [&OwnedFd; 3]) -> Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(error)
}

/// Makes three pipes.
pub fn pipes() -> Result<(ChildEnds, Pipes)> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((input, our_input), (our_output, output), (our_error, error)) =
        (pipe()?, pipe()?, pipe()?);
    // This fails if memory is scarce; the default capacity works, too.
    let _ = rustix::pipe::fcntl_setpipe_size(&our_output, PIPE_CAPACITY);
    for ours in [&our_input, &our_output, &our_error] {
        rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK)?;
    }
    let ends = ChildEnds::Pipes([input, output, error]);
    Ok((ends, Pipes { input: our_input, output: our_output, error: our_error }))
}

/// Makes a pseudo-terminal of the given size.
pub fn terminal(devices: &Devices, size: Size) -> Result<(ChildEnds, Master)> {
    let control = devices.open_terminal()?;
    rustix::pty::unlockpt(&control)?;
    set_size(&control, size)?;
    let ends = ChildEnds::Terminal(duplicate(&control)?);
    Ok((ends, Master { to: duplicate(&control)?, from: duplicate(&control)?, control }))
}

/// Sets the size of a terminal; its processes get SIGWINCH.
pub fn set_size(terminal: impl AsFd, size: Size) -> Result<()> {
    let Size { rows, columns } = size;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}
