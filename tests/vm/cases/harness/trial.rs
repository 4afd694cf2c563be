//! One test in a process of its own, which has a deadline and leaves no process behind.
//!
//! This program starts itself again for each test, with the test's name in [`VARIABLE`]. The
//! new process is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): every program that its test
//! starts stays its descendant, in any session or process group. So the harness finds them
//! all in proc(5) and kills them when the deadline has passed. If the program that runs the
//! tests is gone, the new process sees the end of its standard input, and kills them itself.

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeWriter, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, exit};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use libtest_mimic::Completion;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use virtinitrd_vm_tests::{is_installed, is_required};

use crate::harness::processes::{Family, PATIENCE, family, pid_of, still_running};

/// Default deadline of a test. The longest test takes half a minute on an idle host; a host
/// that runs other things gets more.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// Environment variable with the deadline of every test, in seconds.
const DEADLINE_VARIABLE: &str = "VM_DEADLINE";

/// Environment variable with the name of the test that this process runs.
pub(crate) const VARIABLE: &str = "VM_TRIAL";

/// Exit status of a test's process that lacks a tool (automake uses the same number).
const STATUS_SKIPPED: u8 = 77;

/// Pause between two rounds of SIGKILL.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs the test `name` in a new process until it ends, or its deadline passes.
pub(crate) fn run(name: &str) -> Result<Completion> {
    let seconds = std::env::var(DEADLINE_VARIABLE).ok().and_then(|text| text.parse().ok());
    // This name leads to the running program even if a new build has replaced its file.
    let mut command = Command::new("/proc/self/exe");
    command.env(VARIABLE, name);
    TestProcess::start(command)?.finish(seconds.map_or(DEADLINE, Duration::from_secs))
}

/// The process of a test.
pub(crate) struct TestProcess {
    pub(crate) process: Child,
    /// File for the result that the test prints. A pipe would be held open by every program
    /// that the test leaves behind.
    said: File,
    /// Standard input of the process, which ends when this program ends.
    pub(crate) lifeline: PipeWriter,
}

impl TestProcess {
    /// Starts `command`, which names its test in [`VARIABLE`].
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let said = tempfile::tempfile().context("make a file")?;
        let (input, lifeline) = std::io::pipe().context("make a pipe")?;
        command.stdin(input).stdout(said.try_clone()?);
        // Ctrl-C reaches this program alone; the test sees the end of its input.
        let process = command.process_group(0).spawn().context("start a test's process")?;
        Ok(Self { process, said, lifeline })
    }

    /// Process id of the test.
    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.process)
    }

    /// Waits for the end of the test, and kills it if that takes longer than `limit`.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Completion> {
        let is_over = self.ends_within(limit)?;
        let killed = if is_over { Vec::new() } else { end_with_family(self.pid())? };
        let status = self.process.wait()?;
        drop(self.lifeline);
        let mut said = Vec::new();
        self.said.rewind()?;
        self.said.read_to_end(&mut said)?;
        let said = String::from_utf8_lossy(&said);
        if !is_over {
            let killed: Vec<_> = killed.iter().map(|(pid, line)| format!("{pid} {line}")).collect();
            bail!("the test has not ended in {} s; killed: {killed:#?}\n{said}", limit.as_secs());
        }
        match (status.code(), said.trim_end()) {
            (Some(0), _) => Ok(Completion::Completed),
            (Some(code), said) if code == i32::from(STATUS_SKIPPED) => {
                Ok(Completion::ignored_with(said))
            }
            (_, "") => Err(anyhow!("the test's process has ended: {status}")),
            (_, said) => Err(anyhow!("{said}")),
        }
    }

    /// Whether the process ends within this time (pidfd_open(2)).
    fn ends_within(&self, limit: Duration) -> Result<bool> {
        let pid = rustix::process::Pid::from_child(&self.process);
        let process = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(0) if Instant::now() >= deadline => return Ok(false),
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error).context("poll"),
            }
        }
    }
}

/// Kills a test's process and its descendants. The process is stopped first, so that it
/// starts no more programs, and killed last, so that its descendants keep their parent.
fn end_with_family(pid: Pid) -> Result<Family> {
    kill(pid, Signal::SIGSTOP).context("stop the test's process")?;
    let killed = end_descendants(pid);
    kill(pid, Signal::SIGKILL).context("kill the test's process")?;
    killed
}

/// Kills the descendants of a process, and returns them.
fn end_descendants(pid: Pid) -> Result<Family> {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = Family::new();
    loop {
        let mut left = still_running(&family(pid)?);
        left.retain(|(other, _)| *other != pid);
        if left.is_empty() || Instant::now() > deadline {
            return Ok(killed);
        }
        for (pid, line) in left {
            let _ = kill(pid, Signal::SIGKILL); // it may have ended, or be another user's
            if !killed.iter().any(|(known, _)| *known == pid) {
                killed.push((pid, line));
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// Name of the test that this process was started for.
pub(crate) fn asked_for() -> Option<OsString> {
    std::env::var_os(VARIABLE)
}

/// Names of the tools that a test needs, but that are not installed.
#[derive(Debug)]
struct MissingTools(String);

impl std::fmt::Display for MissingTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: not installed; run scripts/setup test", self.0)
    }
}

impl std::error::Error for MissingTools {}

/// Checks that all of `tools` are installed.
///
/// # Errors
/// A tool is missing. A test that returns this error is skipped.
pub(crate) fn needs(tools: &[&str]) -> Result<()> {
    let missing: Vec<_> = tools.iter().copied().filter(|tool| !is_installed(tool)).collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingTools(missing.join(", ")).into()) }
}

/// Runs `body` as the test of this process.
pub(crate) fn run_here(body: impl FnOnce() -> Result<()>) -> ExitCode {
    let result = prepare().and_then(|()| body());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            let is_skipped = error.is::<MissingTools>() && !is_required();
            if is_skipped { ExitCode::from(STATUS_SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}

/// Makes this process keep its descendants, and end with them when its parent ends.
fn prepare() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let lifeline = std::io::stdin().as_fd().try_clone_to_owned().context("copy a descriptor")?;
    // Programs of a test must not read the caller's standard input.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?).context("replace standard input")?;
    std::thread::spawn(move || {
        // Nobody ever writes to it, so this returns at its end.
        let _ = File::from(lifeline).read(&mut [0]);
        if let Err(error) = end_descendants(Pid::this()) {
            eprintln!("end an abandoned test: {error:#}");
        }
        exit(1);
    });
    Ok(())
}
