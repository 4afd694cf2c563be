//! One test in a process of its own, which has a deadline and leaves nothing.
//!
//! This program starts itself again for each test, with the test's name in
//! [`VARIABLE`]. The new process is a subreaper (prctl(2),
//! PR_SET_CHILD_SUBREAPER): whatever its test starts stays its descendant, in
//! whatever session or process group it is. So all of it can be found in
//! proc(5) and killed, when the deadline has passed, and also when the program
//! that runs the tests is gone: the new process then sees the end of its
//! standard input.

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeWriter, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, exit};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::Completion;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use virtinitrd_vm_tests::{is_installed, is_required};

use crate::Case;
use crate::harness::Bed;
use crate::processes::{self, Family, family, running};

/// Deadline of a test. The longest takes half a minute on an idle host; a host
/// that runs other things gets more. [`DEADLINE_VARIABLE`] gives another.
const DEADLINE: Duration = Duration::from_secs(600);

/// Environment variable with the deadline of every test, in seconds.
const DEADLINE_VARIABLE: &str = "VM_DEADLINE";

/// Environment variable with the name of the test that this process runs.
pub(crate) const VARIABLE: &str = "VM_TRIAL";

/// Exit status of a test's process that lacks a tool, as automake has it.
const STATUS_SKIPPED: u8 = 77;

/// How long processes may take to end after SIGKILL, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at processes that are no children of ours.
const PAUSE: Duration = Duration::from_millis(10);

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("a_hung_test_is_ended",                 a_hung_test_is_ended),
    ("an_abandoned_test_is_ended",           an_abandoned_test_is_ended),
    ("a_failure_is_passed_on",               a_failure_is_passed_on),
    ("a_missing_tool_skips_a_test",          a_missing_tool_skips_a_test),
    ("a_hung_boot_begins_again",             a_hung_boot_begins_again),
    ("ignored_signals_have_their_defaults",  ignored_signals_have_their_defaults),
];

/// Tests that [`CASES`] start in processes of their own; they are in no list.
pub(crate) const HIDDEN: &[Case] = &[
    ("trial::hangs", |_| hangs()),
    ("trial::fails", |_| bail!("a reason")),
    ("trial::lacks", |_| needs(&["sh", "no-such-tool"])),
    ("trial::dispositions", |_| dispositions()),
];

/// Runs the test `name` in a new process until it ends, or its deadline passes.
pub(crate) fn run(name: &str) -> Result<Completion> {
    let seconds = std::env::var(DEADLINE_VARIABLE).ok().and_then(|text| text.parse().ok());
    // By this name it is there though a new build has replaced its file meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.env(VARIABLE, name);
    Trial::start(command)?.finish(seconds.map_or(DEADLINE, Duration::from_secs))
}

/// A test under way.
struct Trial {
    process: Child,
    /// What the test says at its end. A file, for a pipe could be held open by
    /// what the test has started.
    said: File,
    /// Standard input of the process, which ends when we do.
    lifeline: PipeWriter,
}

impl Trial {
    fn start(mut command: Command) -> Result<Self> {
        let said = tempfile::tempfile().context("make a file")?;
        let (input, lifeline) = std::io::pipe().context("make a pipe")?;
        command.stdin(input).stdout(said.try_clone()?);
        // Ctrl-C reaches us alone; the end of its input tells the process.
        let process = command.process_group(0).spawn().context("start a test's process")?;
        Ok(Self { process, said, lifeline })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(i32::MAX))
    }

    fn finish(mut self, limit: Duration) -> Result<Completion> {
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

/// Kills a test's process and all that descends from it. The process is stopped
/// first, or it would start more, and end last, or its descendants would get
/// another parent.
fn end_with_family(pid: Pid) -> Result<Family> {
    kill(pid, Signal::SIGSTOP).context("stop the test's process")?;
    let killed = end_descendants(pid);
    kill(pid, Signal::SIGKILL).context("kill the test's process")?;
    killed
}

/// Kills what descends from a process, and tells what it was.
fn end_descendants(pid: Pid) -> Result<Family> {
    let deadline = Instant::now() + PATIENCE;
    let mut killed = Family::new();
    loop {
        let left: Family = running(family(pid)?).filter(|(other, _)| *other != pid).collect();
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

/// The test that this process was started for.
pub(crate) fn asked_for() -> Option<OsString> {
    std::env::var_os(VARIABLE)
}

/// Tools that a test needs, and that are not installed.
#[derive(Debug)]
struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: not installed; run scripts/setup test", self.0)
    }
}

impl std::error::Error for Missing {}

/// Skips the test that calls this where one of `tools` is missing.
///
/// # Errors
/// One is missing: an error to be returned by the test.
pub(crate) fn needs(tools: &[&str]) -> Result<()> {
    let missing: Vec<_> = tools.iter().copied().filter(|tool| !is_installed(tool)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing.join(", ")).into()) }
}

/// Runs `body` as the test of this process.
pub(crate) fn run_here(body: impl FnOnce() -> Result<()>) -> ExitCode {
    let result = prepare().and_then(|()| body());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            let is_skipped = error.is::<Missing>() && !is_required();
            if is_skipped { ExitCode::from(STATUS_SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}

/// Keeps descendants, and ends with them when our parent does.
fn prepare() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let lifeline = std::io::stdin().as_fd().try_clone_to_owned().context("copy a descriptor")?;
    // A test's programs read nothing, whatever the caller's standard input is.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?).context("replace standard input")?;
    std::thread::spawn(move || {
        // Nothing is ever written; this is the end, or an error.
        let _ = File::from(lifeline).read(&mut [0]);
        if let Err(error) = end_descendants(Pid::this()) {
            eprintln!("end an abandoned test: {error:#}");
        }
        exit(1);
    });
    Ok(())
}

/// A test without a deadline of its own, one of whose programs left its session.
fn hangs() -> Result<()> {
    let script = "setsid sleep 3600 & exec sleep 3601";
    Command::new("sh").args(["-c", script]).output().context("run sh")?;
    Ok(())
}

/// Starts `trial::hangs`, and waits until both of its programs run.
fn hanging() -> Result<(Trial, Family)> {
    let mut command = Command::new(std::env::current_exe()?);
    let trial = Trial::start({
        command.env(VARIABLE, "trial::hangs");
        command
    })?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let family = family(trial.pid())?;
        let is_there = |line| family.iter().any(|(_, known)| known.trim_end() == line);
        if is_there("sleep 3600") && is_there("sleep 3601") {
            return Ok((trial, family));
        }
        ensure!(Instant::now() < deadline, "no programs in {family:?}");
        std::thread::sleep(PAUSE);
    }
}

fn a_hung_test_is_ended(_: &Bed) -> Result<()> {
    let (trial, family) = hanging()?;
    let error = trial.finish(Duration::ZERO).err().context("it passed")?.to_string();
    for words in ["the test has not ended in 0 s", "sleep 3600", "sleep 3601"] {
        ensure!(error.contains(words), "no {words:?} in {error}");
    }
    processes::all_gone(&family)
}

fn an_abandoned_test_is_ended(_: &Bed) -> Result<()> {
    let (mut trial, family) = hanging()?;
    drop(trial.lifeline);
    trial.process.wait()?;
    processes::all_gone(&family)
}

fn a_failure_is_passed_on(_: &Bed) -> Result<()> {
    let error = run("trial::fails").err().context("it passed")?.to_string();
    ensure!(error == "a reason", "{error}");
    let error = run("trial::no_such").err().context("it passed")?.to_string();
    ensure!(error.contains("no test is called trial::no_such"), "{error}");
    Ok(())
}

fn a_missing_tool_skips_a_test(_: &Bed) -> Result<()> {
    let ends = |required| {
        let mut command = Command::new(std::env::current_exe()?);
        command.env(VARIABLE, "trial::lacks").env("REQUIRE_VM", required);
        Trial::start(command)?.finish(DEADLINE)
    };
    let words = "no-such-tool: not installed";
    match ends("0")? {
        Completion::Ignored { reason: Some(reason) } if reason.contains(words) => {}
        _ => bail!("it was not skipped for that reason"),
    }
    let error = ends("1").err().context("it passed")?.to_string();
    ensure!(error.contains(words), "{error}");
    Ok(())
}

/// The machine of a boot that hangs in the kernel is ended, and another started.
fn a_hung_boot_begins_again(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "[ -e /run/mnt/state/hung ] && echo a second time && poweroff -f
        echo > /run/mnt/state/hung
        echo 'watchdog: BUG: soft lockup - CPU#0 stuck for 26s!'; sleep 3600",
    )?;
    guest.mount("--mount", "state")?;
    guest.boot()?.shows(&["a second time"])
}

/// Standard signals in a mask of proc_pid_status(5): those below 32, where the
/// real-time ones begin (signal(7)).
const STANDARD: u64 = 0x7fff_ffff;

/// No signal of a program that a test starts is ignored or blocked.
fn dispositions() -> Result<()> {
    let status = Command::new("cat").arg("/proc/self/status").output()?.stdout;
    let status = String::from_utf8(status)?;
    for mask in ["SigBlk:", "SigIgn:"] {
        let value = status.lines().find_map(|line| line.strip_prefix(mask)).context(mask)?;
        let value = u64::from_str_radix(value.trim(), 16)?;
        ensure!(value & STANDARD == 0, "{mask} {value:x}");
    }
    Ok(())
}

/// As a script's background job starts the tests, and nohup(1), and worse.
fn ignored_signals_have_their_defaults(_: &Bed) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP INT QUIT PIPE TERM TSTP TTOU USR1; exec \"$0\""]);
    command.arg(std::env::current_exe()?).env(VARIABLE, "trial::dispositions");
    Trial::start(command)?.finish(DEADLINE).map(drop)
}
