//! The first process of a step: PID 1 of its namespace.
//!
//! It leaves the machine's root for the image, starts the program, and waits for it and for
//! orphans (pid_namespaces(7)). When it ends, the kernel kills all that is left in the namespace.
//!
//! The machine's root is gone for all processes of the step (pivot_root(2)): root could leave a
//! mere chroot(2), or go through `/proc/1/root`. So this process opens the files of the machine
//! that the step still needs before; the next process opens them as [`descriptor`] says.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, pivot_root};
use virtinitrd_step::report::Outcome;

use crate::fault::Describe;
use crate::{mounts, paths, program, run};

/// Name of this process among the commands of the program.
pub(crate) const COMMAND: &str = "first";

/// Number of this process in its namespace.
const FIRST: u32 = 1;

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
    let mut fault = open_to_write(paths::FAULT)?;
    let result = supervise(words, &fault);
    if let Err(error) = &result {
        fault.write_all(format!("{error:#}").as_bytes()).context("report a fault")?;
    }
    result.map(|()| 0)
}

/// Path of a file that this process has open, for its child in the image.
fn descriptor(file: &File) -> String {
    format!("/proc/{FIRST}/fd/{}", file.as_raw_fd())
}

fn supervise(words: &[OsString], fault: &File) -> Result<()> {
    // If `/step run` is killed, the step ends, too.
    set_pdeathsig(Signal::SIGKILL).describe(|| "tie the step to its caller".to_owned())?;
    set_oom_score(NEVER_KILLED)?;
    let [streams, request, ids @ ..] = words else { bail!("too few words for the first process") };
    let request = File::open(request).describe(|| format!("open {}", request.display()))?;
    let mut ended_file = open_to_write(paths::ENDED)?;
    mounts::mount_proc(Path::new(paths::ROOT))?;
    leave_machine()?;
    let mut command = Command::new(run::SELF);
    command
        .arg(program::COMMAND)
        .arg(streams)
        .args([descriptor(fault), descriptor(&request)])
        .args(ids);
    if streams == Streams::Report.word() {
        let output = std::io::stderr().as_fd().try_clone_to_owned();
        command.stdout(Stdio::from(output.describe(|| "copy standard error".to_owned())?));
    }
    let child = command.spawn().describe(|| "start the process of the program".to_owned())?;
    let outcome = wait_for(Pid::from_raw(i32::try_from(child.id())?))?;
    let ended = Ended { outcome, left: count_left() };
    // Root in the step can open this file, too, and write to it.
    let written =
        ended_file.set_len(0).and_then(|()| ended_file.write_all(ended.to_text().as_bytes()));
    written.describe(|| format!("write {}", paths::ENDED))
}

fn open_to_write(path: &str) -> Result<File> {
    OpenOptions::new().write(true).open(path).describe(|| format!("open {path}"))
}

/// Makes the image the root of this process in a mount namespace of its own, from which the
/// machine's root is then unmounted. The other namespace stays as it is, for the clean-up.
fn leave_machine() -> Result<()> {
    let describe = || "make the image the root of the step".to_owned();
    unshare(CloneFlags::CLONE_NEWNS).describe(describe)?;
    chdir(paths::ROOT).describe(describe)?;
    // The old root is then mounted at the new one, above it (pivot_root(2), notes).
    pivot_root(".", ".").describe(describe)?;
    umount2(".", MntFlags::MNT_DETACH).describe(describe)?;
    chdir("/").describe(describe)
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
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
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
