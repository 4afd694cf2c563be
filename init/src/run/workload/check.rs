//! One health check: a process with a time limit, and the beginning of its output.
//!
//! Interfaces: fork(2), pipe(2), kill(2).
//!
//! A check has the environment, the user and the directory of the workload, an empty standard
//! input, and a session of its own.

use core::fmt;
use core::time::Duration;

use proto::settings::Command;
use proto::text::show;
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitStatus};

use crate::rt;
use crate::rt::process::{uptime, uptime_after};
use crate::run::session::spawn::become_command;
use crate::run::session::stdio::{self, ProcessSession};
use crate::run::session::user::User;
use crate::sys::children::shell_status;
use crate::sys::file;

/// Most bytes of its output that are kept.
const TEXT_MAX: usize = 512;

/// A check that runs. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Check {
    /// Its process, which leads a process group.
    pub pid: Pid,
    /// Time of its start.
    pub began: Duration,
    /// Time at which it is given up, or given up again.
    pub deadline: Duration,
    /// Our end of the pipe for its output; `None` at its end.
    pub output: Option<OwnedFd>,
    text: [u8; TEXT_MAX],
    length: usize,
    fate: Fate,
}

/// What has become of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Runs,
    /// It has ended with this status.
    Ended(u8),
    /// Its time was over before it ended.
    GivenUp,
    /// It has ended after that.
    EndedLate,
}

impl Check {
    /// Starts the check of the workload `command`.
    ///
    /// # Errors
    /// There is no descriptor, memory or process left.
    pub fn start(command: &Command<'_>) -> Result<Self, Errno> {
        let health = &command.health;
        let (output, child_output) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)?;
        let Some(pid) = rt::process::fork()? else {
            let take = &|user: &User<'_>| take_streams(&child_output, user);
            let failure = become_command(command, &health.args, take);
            // This fails only if PID 1 has ended.
            let _ = file::write_all(&child_output, failure.message.as_bytes());
            rt::exit(failure.status.into());
        };
        let began = uptime();
        let deadline = uptime_after(health.schedule.timeout);
        let (text, length, fate) = ([0; TEXT_MAX], 0, Fate::Runs);
        Ok(Self { pid, began, deadline, output: Some(output), text, length, fate })
    }

    /// Reads what it has printed. The part that does not fit is dropped, so that the check goes
    /// on.
    pub fn read(&mut self) {
        let mut rest = [0; TEXT_MAX];
        while let Some(output) = &self.output {
            let room = self.text.get_mut(self.length..).filter(|room| !room.is_empty());
            let is_kept = room.is_some();
            match rustix::io::read(output, room.unwrap_or(&mut rest)) {
                Ok(count @ 1..) => {
                    self.length += if is_kept { count } else { 0 };
                    // A check that prints without end must not keep PID 1 here.
                    return;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    /// Takes the status of its process.
    pub fn end(&mut self, status: WaitStatus) {
        self.read();
        self.fate = match self.fate {
            Fate::Runs => Fate::Ended(shell_status(status)),
            Fate::Ended(_) | Fate::GivenUp | Fate::EndedLate => Fate::EndedLate,
        };
    }

    /// Kills it, because its time is over. A process that waits for a device does not end; it
    /// fails again at each deadline.
    pub fn give_up(&mut self) {
        self.kill();
        self.fate = Fate::GivenUp;
    }

    /// What has become of it.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.fate
    }

    fn kill(&self) {
        // This fails if the group has ended, or has not been made yet.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if matches!(self.fate, Fate::Runs | Fate::GivenUp) {
            self.kill();
        }
    }
}

/// How it has failed, for people: its status or its time limit, and its first line of output.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate {
            Fate::Ended(status) => write!(f, "status {}", u64::from(status))?,
            Fate::GivenUp | Fate::EndedLate | Fate::Runs => {
                f.write_str("the time limit has passed")?;
            }
        }
        let text = self.text.get(..self.length).unwrap_or_default();
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        write!(f, ": {}", show(line))
    }
}

/// Gives a check its streams. `output` becomes that of `user`, who may open it again as
/// `/dev/stdout`.
fn take_streams(output: &OwnedFd, user: &User<'_>) -> Result<ProcessSession, Errno> {
    rustix::fs::fchown(output, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    // Nobody writes to the pipe of its input.
    let (input, _) = pipe_with(PipeFlags::CLOEXEC)?;
    stdio::take_streams([&input, output, output])?;
    Ok(ProcessSession::Bare)
}
