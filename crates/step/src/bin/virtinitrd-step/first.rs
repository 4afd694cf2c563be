//! The first process of a step: PID 1 of its namespace.
//!
//! It starts the program, and waits for it and for orphans (pid_namespaces(7)). When it ends,
//! the kernel kills all that is left in the namespace.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use virtinitrd_step::report::Outcome;

use crate::fault::Describe;
use crate::{mounts, paths, program, run, tree};

/// Name of this process among the commands of the program.
pub(crate) const COMMAND: &str = "first";

/// The out-of-memory killer's score of a process that it must not kill (proc(5)).
const NEVER_KILLED: &str = "-1000";

/// Streams of the step's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// No input; all output goes to standard error, because standard output has the report.
    Report,
    /// The streams of the caller.
    Caller,
}

impl Streams {
    /// The word for these streams.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Caller => "caller",
        }
    }
}

/// How the program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How the program ended.
    pub(crate) outcome: Outcome,
    /// Number of processes that were still there.
    pub(crate) left: u64,
}

impl Ended {
    fn to_text(&self) -> String {
        format!("{}\nleft {}\n", self.outcome.to_line(), self.left)
    }

    /// Reads the text; `None` if it is malformed.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let outcome = Outcome::parse(lines.next()?.as_bytes())?;
        Some(Self { outcome, left: lines.next()?.strip_prefix("left ")?.parse().ok()? })
    }
}

/// Runs the program. The words are those of the streams, the file with the request, and the
/// numbers of the user.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    let result = supervise(words);
    if let Err(error) = &result {
        tree::write_private(Path::new(paths::FAULT), format!("{error:#}").as_bytes())?;
    }
    result.map(|()| 0)
}

fn supervise(words: &[OsString]) -> Result<()> {
    // If `/step run` is killed, the step ends, too.
    set_pdeathsig(Signal::SIGKILL).describe(|| "tie the step to its caller".to_owned())?;
    set_oom_score(NEVER_KILLED)?;
    let (streams, rest) = words.split_first().context("no streams")?;
    mounts::mount_proc(Path::new(paths::ROOT))?;
    let mut command = Command::new(run::SELF);
    command.arg(program::COMMAND).args([streams]).args(rest);
    if streams == Streams::Report.word() {
        let output = std::io::stderr().as_fd().try_clone_to_owned();
        command.stdout(Stdio::from(output.describe(|| "copy standard error".to_owned())?));
    }
    let child = command.spawn().describe(|| "start the process of the program".to_owned())?;
    let outcome = wait_for(Pid::from_raw(i32::try_from(child.id())?))?;
    let ended = Ended { outcome, left: count_left() };
    tree::write_private(Path::new(paths::ENDED), ended.to_text().as_bytes())
}

/// Sets the score of this process for the out-of-memory killer.
pub(crate) fn set_oom_score(score: &str) -> Result<()> {
    let describe = || "set the score for the out-of-memory killer".to_owned();
    fs::write("/proc/self/oom_score_adj", score).describe(describe)
}

/// Waits for the end of `program`; orphans that end before are reaped.
fn wait_for(program: Pid) -> Result<Outcome> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, status)) if pid == program => {
                return Ok(Outcome::Exit(status.to_le_bytes()[0]));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Ok(Outcome::Signal(u8::try_from(signal as i32)?));
            }
            // nix has no name for a real-time signal, and says EINVAL after it has reaped the process.
            Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
            Err(Errno::ECHILD) => {
                return Ok(Outcome::fault("a real-time signal has killed the program"));
            }
            Err(errno) => return Err(errno).describe(|| "wait for the program".to_owned()),
        }
    }
}

/// Number of processes in the namespace besides this one.
fn count_left() -> u64 {
    // Orphans that have ended are not left.
    while matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    ) {}
    let is_process = |name: &str| name.parse::<u32>().is_ok_and(|pid| pid > 1);
    // The program may have unmounted /proc, and then nobody knows.
    let entries = fs::read_dir(Path::new(paths::ROOT).join("proc")).into_iter().flatten().flatten();
    let count = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_process)).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_again() {
        for (outcome, left) in [(Outcome::Exit(3), 0), (Outcome::Signal(9), 70_000)] {
            let ended = Ended { outcome, left };
            assert_eq!(Ended::parse(ended.to_text().as_bytes()), Some(ended));
        }
        for text in ["", "exit 3", "exit 3\n", "exit 3\nleft x\n", "left 3\n"] {
            assert_eq!(Ended::parse(text.as_bytes()), None, "{text}");
        }
    }
}
