//! Starting a command of the workload on the console, in the session of PID 1. If the console is
//! a terminal, it controls that session.
//!
//! Interfaces: fork(2), execve(2).

use core::ffi::CStr;

use proto::settings::Command;
use proto::status::TROUBLE;
use proto::words::text;
use rustix::fd::{AsFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::OOM_SCORE;
use crate::rt;
use crate::run::session::failure::Failure;
use crate::run::session::spawn;
use crate::run::session::stdio::{ProcessSession, Stdio};
use crate::run::session::user::{self, User};
use crate::sys::error::{Context, ErrnoName, Error, Result};
use crate::sys::file;

/// Longest message in bytes of a child that could not start the command.
const MESSAGE_MAX: usize = 512;

/// Starts the words `args` as the workload `command` describes.
///
/// # Errors
/// The program cannot be executed; or a system call failed.
pub(super) fn start(command: &Command<'_>, args: &[&CStr]) -> Result<Pid> {
    let what = format_args!("start the command");
    let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    let Some(pid) = rt::process::fork().context(what)? else {
        // Descriptors 0 to 2 of PID 1 are the console, opened for reading and writing.
        let console = &mut |_: &User<'_>| {
            let [input, output, error] = [(); 3].map(|()| duplicate(rt::stderr()));
            let session = ProcessSession::Shared;
            Ok(Stdio { input: input?, output: output?, error: error?, session })
        };
        let Failure { message, .. } = become_command(command, args, console);
        // This fails only if the parent has ended.
        let _ = file::write_all(&child_report, message.as_bytes());
        rt::exit(TROUBLE.into());
    };
    drop(child_report);
    let mut message = [0; MESSAGE_MAX];
    match file::read_stream(&report, &mut message) {
        // The pipe was closed by execve(2).
        Ok(b"") => Ok(pid),
        Ok(message) => Err(Error::new(format_args!("{}", text(message)), "")),
        Err(errno) => Err(errno).context(what),
    }
}

/// Turns this child of PID 1 into the words `args`, with the environment, user and directory of
/// `command` and the streams that `open` makes for that user; returns only on failure.
pub(super) fn become_command(
    command: &Command<'_>,
    args: &[&CStr],
    open: &mut dyn FnMut(&User<'_>) -> Result<Stdio, Failure>,
) -> Failure {
    // As above, where the value comes from.
    let _ = file::write(OOM_SCORE, b"0");
    let result =
        user::look_up(command.user, &mut |user| spawn::execute(command, args, user, open(user)?));
    match result {
        Err(failure) => failure,
        // This cannot happen: a program that was executed does not return.
        Ok(()) => rt::exit(TROUBLE.into()),
    }
}

/// A copy of a descriptor of PID 1 for the streams of a child.
///
/// # Errors
/// There is no descriptor left.
pub(super) fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|errno| {
        Failure::trouble(Error::new(format_args!("open the streams: {}", ErrnoName(errno)), ""))
    })
}
