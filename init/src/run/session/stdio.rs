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

/// The child's standard streams.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
    /// The session of the command (setsid(2)).
    pub session: ProcessSession,
}

/// The session of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSession {
    /// A new session without a terminal.
    Bare,
    /// A new session, controlled by the terminal of the three streams.
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

/// Makes three pipes. They belong to `user`, who may open them again as `/dev/stdout` and
/// the like.
pub fn pipes(user: &User<'_>) -> Result<(Stdio, Pipes)> {
    let pipe = || {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::fs::fchown(&from, Some(uid), Some(gid))?;
        Ok((from, to))
    };
    let ((input, our_input), (our_output, output), (our_error, error)) =
        (pipe()?, pipe()?, pipe()?);
    // This fails if memory is scarce; the default capacity works, too.
    let _ = rustix::pipe::fcntl_setpipe_size(&our_output, PIPE_CAPACITY);
    for ours in [&our_input, &our_output, &our_error] {
        rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK)?;
    }
    let stdio = Stdio { input, output, error, session: ProcessSession::Bare };
    Ok((stdio, Pipes { input: our_input, output: our_output, error: our_error }))
}

/// Makes a pseudo-terminal of the given size that belongs to `user`.
pub fn terminal(devices: &Devices, user: &User<'_>, size: Size) -> Result<(Stdio, Master)> {
    let control = devices.open_terminal()?;
    rustix::pty::unlockpt(&control)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // Open the terminal through its master, because the root may have no /dev.
    let input = rustix::pty::ioctl_tiocgptpeer(&control, flags)?;
    rustix::fs::fchown(&input, Some(Uid::from_raw(user.uid)), None)?;
    set_size(&control, size)?;
    let (output, error) = (duplicate(&input)?, duplicate(&input)?);
    let stdio = Stdio { input, output, error, session: ProcessSession::Terminal };
    Ok((stdio, Master { to: duplicate(&control)?, from: duplicate(&control)?, control }))
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
