//! One `chrootvm ROOTFS -- COMMAND` as its caller sees it: the input, the bytes on each
//! output stream, the exit status.
//!
//! A command has a deadline. If a check fails, the failure shows both streams, the status
//! and the command line that repeats it, and the root is kept.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::processes::{family, kill_family, pid_of};
use crate::harness::programs::{exit_status, send_chunks};
use crate::harness::{Bed, Machine};

/// Deadline of a command, for a machine that hangs. A run takes 3 s here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Number of bytes of a stream that a failure shows.
const SHOWN: usize = 1500;

impl Bed {
    /// A command in a machine with a busybox root and the testbed's kernel.
    pub(crate) fn run(&self, words: &[&str]) -> Result<CommandRun> {
        Ok(CommandRun::new(self.busybox_machine()?, words))
    }

    /// A script for the shell of a busybox root.
    pub(crate) fn sh(&self, script: &str) -> Result<CommandRun> {
        self.run(&["sh", "-c", script])
    }

    /// A script for the shell of a root that contains one static program, and no directory.
    pub(crate) fn scratch(&self, script: &str) -> Result<CommandRun> {
        let machine = self.bare_machine()?;
        std::fs::copy(&self.busybox, machine.root().join("busybox")).context("copy busybox")?;
        Ok(CommandRun::new(machine, &["/busybox", "sh", "-c", script]))
    }

    /// A script for the shell of Debian, with Debian's own kernel.
    pub(crate) fn debian(&self, script: &str) -> Result<CommandRun> {
        let machine = self.machine_on(&self.debian_root()?)?;
        Ok(CommandRun::new(machine, &["sh", "-c", script]))
    }
}

/// Message of a chrootvm whose machine was saved earlier, and hangs before its command starts. QEMU
/// 7.2 without KVM does that now and then, and such a machine has no kernel to start again.
const HUNG: &str = "error: the boot hangs: not a word from the guest within ";

/// Warning of `chrootvm` that it has restarted a machine whose kernel hung during the boot.
/// QEMU 7.2 without KVM causes that now and then, so it is no failure of the test.
pub(crate) const RESTARTED: &str = "warning: the guest's kernel is stuck; it is started again\n";

/// A command that has not been started yet.
#[derive(Debug)]
pub(crate) struct CommandRun {
    pub(crate) machine: Machine,
    separator: Option<&'static str>,
    words: Vec<OsString>,
    input: Vec<u8>,
    wrapper: Option<String>,
    variables: Vec<(String, OsString)>,
    /// Whether a command whose machine hangs is started again.
    may_start_again: bool,
    /// Longest time that the command may take.
    limit: Duration,
}

impl CommandRun {
    pub(crate) fn new(machine: Machine, words: &[&str]) -> Self {
        let words = words.iter().map(OsString::from).collect();
        let separator = Some("--");
        Self {
            machine,
            separator,
            words,
            input: Vec::new(),
            wrapper: None,
            variables: Vec::new(),
            may_start_again: true,
            limit: DEADLINE,
        }
    }

    /// Gives the command this time instead of [`DEADLINE`].
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Leaves out the `--` between ROOTFS and the command.
    pub(crate) fn without_separator(mut self) -> Self {
        self.separator = None;
        self
    }

    /// Adds options of `chrootvm`.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.machine.options(options);
        self
    }

    /// Adds a word to the command.
    pub(crate) fn word(&mut self, word: impl Into<OsString>) {
        self.words.push(word.into());
    }

    /// Sets the bytes on standard input; it is empty by default.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Starts `chrootvm` from a shell script of the host, in which `"$@"` is `chrootvm` with
    /// all of its arguments.
    pub(crate) fn through(mut self, script: &str) -> Self {
        self.wrapper = Some(script.into());
        self
    }

    /// Sets a variable in the environment of `chrootvm`.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    /// Adds `-v SOURCE:TARGET`.
    pub(crate) fn volume(&mut self, source: &Path, target: &str) {
        let value = [source.as_os_str().as_bytes(), b":", target.as_bytes()].concat();
        self.machine.option("-v", OsStr::from_bytes(&value));
    }

    /// The command line of `chrootvm`.
    pub(crate) fn command(&self) -> Command {
        let mut direct = self.machine.command();
        direct.args(self.separator).args(&self.words);
        let mut command = match &self.wrapper {
            None => direct,
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, "sh"]).arg(direct.get_program()).args(direct.get_args());
                shell
            }
        };
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the command.
    pub(crate) fn start(self) -> Result<RunningCommand> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().context("start chrootvm")?;
        let (sender, chunks) = channel();
        send_chunks(child.stdout.take().context("stdout")?, sender.clone(), |bytes| (0, bytes));
        send_chunks(child.stderr.take().context("stderr")?, sender, |bytes| (1, bytes));
        let mut stdin = child.stdin.take().context("stdin")?;
        let input = self.input.clone();
        // A command need not read all of its input, so nobody joins this thread.
        std::thread::spawn(move || stdin.write_all(&input));
        let deadline = Instant::now() + self.limit;
        let process = OwnedFamily(child);
        Ok(RunningCommand { run: self, process, chunks, output: Default::default(), deadline })
    }

    /// Starts the command, and waits for its end.
    pub(crate) fn finish(self) -> Result<FinishedCommand> {
        self.start()?.finish()
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct RunningCommand {
    run: CommandRun,
    process: OwnedFamily,
    chunks: Receiver<(usize, Vec<u8>)>,
    output: [Vec<u8>; 2],
    deadline: Instant,
}

impl RunningCommand {
    /// Process id of `chrootvm`, or of the shell that starts it.
    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.process.0)
    }

    /// Sends a signal to `chrootvm`.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal}"))
    }

    /// Sends a signal to `chrootvm` and to all programs that it has started.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<()> {
        let others = family(self.pid())?.into_iter().filter(|(pid, _)| *pid != self.pid());
        for (pid, _) in others {
            let _ = kill(pid, signal); // it may have ended
        }
        self.signal(signal)
    }

    /// Waits until standard output has shown `marker`.
    pub(crate) fn wait_for(&mut self, marker: &str) -> Result<()> {
        while !String::from_utf8_lossy(&self.output[0]).contains(marker) {
            if let Err(error) = self.receive() {
                bail!("no \"{marker}\": {error}\n{}", shown(&self.output));
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), RecvTimeoutError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (number, bytes) = self.chunks.recv_timeout(left)?;
        self.output[number].extend(bytes);
        Ok(())
    }

    /// Waits for the end of the command.
    pub(crate) fn finish(mut self) -> Result<FinishedCommand> {
        let end = loop {
            match self.receive() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        let hangs = end == RecvTimeoutError::Timeout || !self.ends_in_time()?;
        if hangs {
            kill_family(self.pid());
        }
        let status = exit_status(self.process.0.wait()?);
        let has_hung = String::from_utf8_lossy(&self.output[1]).contains(HUNG);
        if has_hung && self.run.may_start_again {
            eprintln!("note: QEMU has hung, and the command is started again");
            let run = CommandRun { may_start_again: false, ..self.run };
            return run.start()?.finish();
        }
        let command = format!("{:?}", self.run.command());
        let limit = self.run.limit.as_secs();
        let output = std::mem::take(&mut self.output);
        let finished = FinishedCommand { status, output, command, machine: self.run.machine };
        match hangs {
            true => Err(finished.failure(&format!("chrootvm has not ended within {limit} s"))),
            false => Ok(finished),
        }
    }

    fn ends_in_time(&mut self) -> Result<bool> {
        while Instant::now() < self.deadline {
            if self.process.0.try_wait()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }
}

/// `chrootvm`, or the shell that starts it. Drop kills it with its descendants.
#[derive(Debug)]
struct OwnedFamily(Child);

impl Drop for OwnedFamily {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            kill_family(pid_of(&self.0));
            let _ = self.0.wait(); // it was killed
        }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct FinishedCommand {
    pub(crate) status: i32,
    /// Bytes of standard output and standard error.
    output: [Vec<u8>; 2],
    command: String,
    machine: Machine,
}

impl FinishedCommand {
    pub(crate) fn stdout(&self) -> &[u8] {
        &self.output[0]
    }

    /// A path in the directory of the machine.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.machine.path(name)
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output[1]).into_owned()
    }

    /// The status is `status`, and the streams hold exactly these bytes.
    pub(crate) fn is(
        mut self,
        status: i32,
        stdout: impl AsRef<[u8]>,
        stderr: &str,
    ) -> Result<Machine> {
        if !stderr.contains(RESTARTED) {
            self.forget_restart();
        }
        let is_expected = self.status == status
            && self.output[0] == stdout.as_ref()
            && self.output[1] == stderr.as_bytes();
        let expected = [stdout.as_ref().to_vec(), stderr.into()];
        self.check(is_expected, || format!("expected: exit status {status}\n{}", shown(&expected)))
    }

    /// The status is `status`, standard output holds exactly `stdout`, and standard error
    /// contains all of `words`. Without `words` standard error is empty.
    pub(crate) fn says(mut self, status: i32, stdout: &str, words: &[&str]) -> Result<Machine> {
        self.forget_restart();
        let stderr = self.stderr();
        let missing = words.iter().find(|word| !stderr.contains(**word));
        let is_expected = missing.is_none()
            && self.status == status
            && self.output[0] == stdout.as_bytes()
            && (!words.is_empty() || stderr.is_empty());
        self.check(is_expected, || {
            format!("expected: exit status {status}, {stdout:?} on stdout, {words:?} on stderr")
        })
    }

    /// The status is `status`, standard output contains all of `texts`, and does not contain
    /// `lacks`.
    pub(crate) fn prints(mut self, status: i32, texts: &[&str], lacks: &str) -> Result<Machine> {
        self.forget_restart();
        let stdout = String::from_utf8_lossy(&self.output[0]).into_owned();
        let is_expected = self.status == status
            && texts.iter().all(|text| stdout.contains(text))
            && !stdout.contains(lacks);
        self.check(is_expected, || {
            format!("expected: exit status {status}, {texts:?} on stdout, and not {lacks:?}")
        })
    }

    /// Removes the line of `--timing` from standard error, and returns it.
    pub(crate) fn take_timing(&mut self) -> Option<String> {
        let stderr = self.stderr();
        let line = stderr.lines().find(|line| line.starts_with("timing: "))?.to_owned();
        self.output[1] = stderr.replacen(&format!("{line}\n"), "", 1).into_bytes();
        Some(line)
    }

    /// Removes the warning about a restart from standard error.
    fn forget_restart(&mut self) {
        let stderr = self.stderr();
        // The command may write the same words, but hardly as a line of their own.
        let at = if stderr.starts_with(RESTARTED) { Some(0) } else { None };
        let at = at.or_else(|| Some(stderr.find(&format!("\n{RESTARTED}"))? + 1));
        if let Some(at) = at {
            eprintln!("note: QEMU has hung in a boot, which was started again");
            self.output[1].drain(at..at + RESTARTED.len());
        }
    }

    /// Succeeds if `is_expected`; otherwise it fails and says `why`.
    pub(crate) fn check(self, is_expected: bool, why: impl FnOnce() -> String) -> Result<Machine> {
        if is_expected { Ok(self.machine) } else { Err(self.failure(&why())) }
    }

    /// An error with everything that helps to find the cause.
    pub(crate) fn failure(self, why: &str) -> anyhow::Error {
        let Self { status, output, command, machine } = self;
        let kept = machine.keep();
        anyhow!(
            "{why}\n--- got: exit status {status}\n{}\n--- repeat with\n{command}\n--- kept: {}",
            shown(&output),
            kept.display()
        )
    }
}

/// Text of both streams, without the middle of a long stream.
fn shown(output: &[Vec<u8>; 2]) -> String {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    };
    let text = |bytes: &[u8]| match bytes.len() > SHOWN {
        false => text(bytes),
        true => {
            let (head, tail) = (&bytes[..SHOWN / 2], &bytes[bytes.len() - SHOWN / 2..]);
            format!("{}\n[… {} bytes in all …]\n{}", text(head), bytes.len(), text(tail))
        }
    };
    format!("--- stdout\n{}\n--- stderr\n{}", text(&output[0]), text(&output[1]))
}
