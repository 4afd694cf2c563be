//! What the command has as standard input, output and error.
//!
//! Interfaces: pipe(2), pts(4). Only our own ends are non-blocking.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Result;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use virtinitrd_proto::settings::Size;

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
    /// Whose session the command is in.
    pub session: ProcessSession,
}

/// The session of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSession {
    /// Its own, without a terminal.
    Bare,
    /// Its own, controlled by the terminal that the three streams are.
    Terminal,
    /// PID 1's, whose terminal, if it has one, the command's process group gets:
    /// when the leader of a session ends its terminal hangs up, and a serial line
    /// loses what was not sent yet.
    Shared,
}

/// Our ends of the command's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// Where standard input is written to.
    pub input: OwnedFd,
    /// Where standard output is read from.
    pub output: OwnedFd,
    /// Where standard error is read from.
    pub error: OwnedFd,
}

/// Our end of the command's terminal, once for each use.
#[derive(Debug)]
pub struct Master {
    /// To be written to.
    pub to: OwnedFd,
    /// To be read from.
    pub from: OwnedFd,
    /// To set the size of.
    pub control: OwnedFd,
}

/// Three pipes, which `user` may open again by `/dev/stdout` and the like.
pub fn pipes(user: &User<'_>) -> Result<(Stdio, Pipes)> {
    let pipe = || {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::fs::fchown(&from, Some(uid), Some(gid))?;
        Ok((from, to))
    };
    let ((input, our_input), (our_output, output), (our_error, error)) =
        (pipe()?, pipe()?, pipe()?);
    // Refused where memory is scarce; then it holds what it holds.
    let _ = rustix::pipe::fcntl_setpipe_size(&our_output, PIPE_CAPACITY);
    for ours in [&our_input, &our_output, &our_error] {
        rustix::fs::fcntl_setfl(ours, OFlags::NONBLOCK)?;
    }
    let stdio = Stdio { input, output, error, session: ProcessSession::Bare };
    Ok((stdio, Pipes { input: our_input, output: our_output, error: our_error }))
}

/// A pseudo-terminal of the given size that belongs to `user`.
pub fn terminal(devices: &Devices, user: &User<'_>, size: Size) -> Result<(Stdio, Master)> {
    let control = devices.open_terminal()?;
    rustix::pty::unlockpt(&control)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // By its master, for the root may have no /dev.
    let input = rustix::pty::ioctl_tiocgptpeer(&control, flags)?;
    rustix::fs::fchown(&input, Some(Uid::from_raw(user.uid)), None)?;
    set_size(&control, size)?;
    let (output, error) = (duplicate(&input)?, duplicate(&input)?);
    let stdio = Stdio { input, output, error, session: ProcessSession::Terminal };
    Ok((stdio, Master { to: duplicate(&control)?, from: duplicate(&control)?, control }))
}

/// Gives a terminal its size; those who use it hear of it by SIGWINCH.
pub fn set_size(terminal: &OwnedFd, size: Size) -> Result<()> {
    let Size { rows, columns } = size;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}
