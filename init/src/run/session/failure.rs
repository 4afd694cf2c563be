//! The failure to run a command: an exit status and a message for the host.

use alloc::boxed::Box;

use proto::status::TROUBLE;
use rustix::io::Errno;

use crate::sys::error::{Error, sys_error};

/// An exit status and a message for the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit status: one of [`proto::status`].
    pub status: u8,
    /// One line for a person.
    pub message: Box<str>,
}

/// A system call without which no command can be run or watched.
impl From<Errno> for Failure {
    #[inline(never)] // one copy instead of one at each `?`
    fn from(errno: Errno) -> Self {
        Self::of_call("watch the command", errno)
    }
}

impl Failure {
    /// A failure of this program, not of the command.
    #[must_use]
    pub fn trouble(error: Error) -> Self {
        Self { status: TROUBLE, message: error.into_line() }
    }

    /// As [`Failure::trouble`], for a system call.
    #[must_use]
    pub fn of_call(operation: &str, errno: Errno) -> Self {
        Self::trouble(sys_error(format_args!("{operation}"), errno, ""))
    }
}
