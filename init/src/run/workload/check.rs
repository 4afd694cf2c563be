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

use super::health::CheckResult;
use super::start::{become_command, duplicate};
use crate::rt;
use crate::rt::process::{uptime, uptime_after};
use crate::run::session::failure::Failure;
use crate::run::session::stdio::{ProcessSession, Stdio};
use crate::run::session::user::User;
use crate::sys::children::shell_status;
use crate::sys::file;

/// Most bytes of its output that are kept.
const TEXT_MAX: usize = 512;

/// A check that runs. It is killed when this value is dropped.
#[derive(Debug)]
pub(super) struct Check {
    /// Its process, which leads a process group.
    pub(super) pid: Pid,
    /// Time of its start.
    pub(super) began: Duration,
    /// Time at which it is given up, or given up again.
    pub(super) deadline: Duration,
    /// Our end of the pipe for its output; `None` at its end.
    pub(super) output: Option<OwnedFd>,
    text: [u8; TEXT_MAX],
    length: usize,
    fate: Fate,
}

/// What has become of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    Ended(u8),
    GivenUp,
}

impl Check {
    /// Starts the check of the workload `command`.
    ///
    /// # Errors
    /// There is no descriptor, memory or process left.
    pub(super) fn start(command: &Command<'_>) -> Result<Self, Errno> {
        let health = &command.health;
        let (output, child_output) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)?;
        let Some(pid) = rt::process::fork()? else {
            let open = &mut |user: &User<'_>| streams(&child_output, user);
            let failure = become_command(command, &health.args, open);
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
    pub(super) fn read(&mut self) {
        let mut chunk = [0; TEXT_MAX];
        while let Some(output) = &self.output {
            match rustix::io::read(output, &mut chunk) {
                Ok(count @ 1..) => {
                    let room = self.text.get_mut(self.length..).unwrap_or_default();
                    for (slot, byte) in room.iter_mut().zip(chunk.get(..count).unwrap_or_default())
                    {
                        *slot = *byte;
                        self.length += 1;
                    }
                    // A check that prints without end must not keep PID 1 here.
                    return;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    /// Takes the status of its process. Returns the result, unless the check was given up
    /// before.
    pub(super) fn end(&mut self, status: WaitStatus) -> Option<CheckResult> {
        self.read();
        let status = shell_status(status);
        let is_first = self.fate == Fate::Runs;
        self.fate = Fate::Ended(status);
        is_first.then_some(if status == 0 { CheckResult::Passed } else { CheckResult::Failed })
    }

    /// Kills it, because its time is over. A process that waits for a device does not end; it
    /// fails again at each deadline.
    pub(super) fn give_up(&mut self) -> CheckResult {
        self.kill();
        self.fate = Fate::GivenUp;
        CheckResult::Failed
    }

    fn kill(&self) {
        // This fails if the group has ended, or has not been made yet.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if !matches!(self.fate, Fate::Ended(_)) {
            self.kill();
        }
    }
}

/// How it has failed, for people: its status or its time limit, and its first line of output.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate {
            Fate::Ended(status) => write!(f, "status {status}")?,
            Fate::GivenUp | Fate::Runs => f.write_str("the time limit has passed")?,
        }
        let text = self.text.get(..self.length).unwrap_or_default();
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        write!(f, ": {}", show(line))
    }
}

/// The streams of a check: `output` belongs to its user, who may open it again as
/// `/dev/stdout`.
fn streams(output: &OwnedFd, user: &User<'_>) -> Result<Stdio, Failure> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    // The check also runs with a pipe of root.
    let _ = rustix::fs::fchown(output, Some(uid), Some(gid));
    // Nobody writes to this pipe.
    let (input, _) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Failure::of_call("make a pipe", errno))?;
    let session = ProcessSession::Bare;
    Ok(Stdio { input, output: duplicate(output)?, error: duplicate(output)?, session })
}
