//! A machine that runs: its console, its deadline, and a second start if its kernel hangs.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::finished::report;
use crate::harness::processes::pid_of;
use crate::harness::programs::{exit_status, send_chunks, text};
use crate::harness::progress::{BootProgress, progress};

/// Deadline of a machine. A boot takes 3 s here, and 30 s with systemd; a host under load
/// gets more.
const DEADLINE: Duration = Duration::from_secs(180);

/// The failure of a machine that has passed its [`DEADLINE`].
pub(crate) const NOT_ENDED: &str = "the machine has not ended within 180 s";

/// Event of a machine for which the harness waits.
enum Event {
    /// The machine wrote to its console.
    Output,
    /// The machine closed its console.
    End,
    /// The machine passed its deadline.
    Deadline,
}

/// A machine that runs. If its boot hangs before `/init` says anything, the harness starts
/// it again, once.
#[derive(Debug)]
pub(crate) struct RunningMachine {
    command: Command,
    input: Vec<u8>,
    /// File for standard error: a pipe that nobody reads would stop a talkative QEMU.
    stderr: PathBuf,
    silence_limit: Duration,
    child: Child,
    output: Receiver<Vec<u8>>,
    console: Vec<u8>,
    /// Time at which the machine was started, or its console last said something.
    heard: Instant,
    deadline: Instant,
    /// Whether a hung boot is started again.
    may_start_again: bool,
}

impl RunningMachine {
    /// Runs `command` with its console on pipes and standard error in the file `stderr`.
    pub(crate) fn start(
        mut command: Command,
        input: &[u8],
        stderr: PathBuf,
        silence_limit: Duration,
    ) -> Result<Self> {
        let (input, console) = (input.to_vec(), Vec::new());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.stderr(File::create(&stderr)?);
        let (child, output) = spawn(&mut command, &input)?;
        let heard = Instant::now();
        let (deadline, may_start_again) = (heard + DEADLINE, true);
        Ok(Self {
            command,
            input,
            stderr,
            silence_limit,
            child,
            output,
            console,
            heard,
            deadline,
            may_start_again,
        })
    }

    /// Process id of `chrootvm`.
    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// Text of the console.
    pub(crate) fn console(&self) -> String {
        text(&self.console)
    }

    /// Text of standard error.
    pub(crate) fn messages(&self) -> String {
        text(&std::fs::read(&self.stderr).unwrap_or_default())
    }

    /// The command that repeats the boot.
    pub(crate) fn command(&self) -> String {
        format!("{:?}", self.command)
    }

    /// Waits until the console has shown `marker`.
    pub(crate) fn wait_for(&mut self, marker: &str) -> Result<()> {
        while !self.console().contains(marker) {
            match self.receive()? {
                Event::Output => {}
                Event::End => return self.fails(&format!("it has ended without \"{marker}\"")),
                Event::Deadline => return self.fails(&format!("{NOT_ENDED}: no \"{marker}\"")),
            }
        }
        Ok(())
    }

    /// Waits for the end of the machine, and returns its exit status as a shell sees it.
    pub(crate) fn finish(&mut self) -> Result<i32> {
        self.wait()?.ok_or_else(|| self.failure(NOT_ENDED))
    }

    /// As [`RunningMachine::finish`]; `None` if the machine passed its deadline, and was
    /// ended therefore.
    pub(crate) fn wait(&mut self) -> Result<Option<i32>> {
        loop {
            match self.receive()? {
                Event::Output => {}
                Event::End => return Ok(Some(exit_status(self.child.wait()?))),
                Event::Deadline => {
                    self.stop()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The machine exits with `status`.
    pub(crate) fn ends_with(&mut self, status: i32) -> Result<()> {
        match self.finish()? {
            ended if ended == status => Ok(()),
            ended => self.fails(&format!("the exit status is {ended}, not {status}")),
        }
    }

    /// The kernel did not panic, and the console or standard error contains each of `texts`.
    pub(crate) fn shows(&self, texts: &[&str]) -> Result<()> {
        let all = format!("{}\n{}", self.console(), self.messages());
        match texts.iter().find(|text| !all.contains(**text)) {
            Some(missing) => self.fails(&format!("the text \"{missing}\" is missing")),
            None => self.lacks("Kernel panic"),
        }
    }

    /// The console never showed `text`.
    pub(crate) fn lacks(&self, text: &str) -> Result<()> {
        match self.console().contains(text) {
            true => self.fails(&format!("the console shows \"{text}\"")),
            false => Ok(()),
        }
    }

    /// Ends the machine. Its process is `chrootvm` or a shell, and ends all that it started.
    pub(crate) fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(-self.pid().as_raw()), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// An error with everything that helps to find the cause.
    pub(crate) fn failure(&self, why: &str) -> anyhow::Error {
        anyhow!(report(why, &self.console(), &self.messages(), &self.command()))
    }

    fn fails<T>(&self, why: &str) -> Result<T> {
        Err(self.failure(why))
    }

    /// Waits until the machine does something. Starts a hung boot again, if it may.
    fn receive(&mut self) -> Result<Event> {
        loop {
            let limit = match self.may_start_again {
                true => self.deadline.min(self.heard + self.silence_limit),
                false => self.deadline,
            };
            let left = limit.saturating_duration_since(Instant::now());
            let event = match self.output.recv_timeout(left) {
                Ok(bytes) => {
                    self.console.extend(bytes);
                    self.heard = Instant::now();
                    Some(Event::Output)
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Event::End),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= self.deadline => {
                    return Ok(Event::Deadline);
                }
                Err(RecvTimeoutError::Timeout) => None,
            };
            if self.hangs() {
                self.start_again()?;
            } else if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Whether the boot hangs, and may be started again.
    fn hangs(&mut self) -> bool {
        if !self.may_start_again {
            return false;
        }
        let progress = progress(&self.console(), self.heard.elapsed(), self.silence_limit);
        self.may_start_again = progress != BootProgress::InitRuns;
        progress == BootProgress::Hung
    }

    fn start_again(&mut self) -> Result<()> {
        eprintln!("note: QEMU has hung in a boot, which is started again");
        self.stop()?;
        self.command.stderr(File::create(&self.stderr)?);
        (self.child, self.output) = spawn(&mut self.command, &self.input)?;
        self.console.clear();
        self.heard = Instant::now();
        self.deadline = self.heard + DEADLINE;
        self.may_start_again = false;
        Ok(())
    }
}

/// Spawns `command`, writes `input` to it, and reads its output.
fn spawn(command: &mut Command, input: &[u8]) -> Result<(Child, Receiver<Vec<u8>>)> {
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let stdout = child.stdout.take().context("stdout")?;
    let input = input.to_vec();
    // A machine that ends need not have read all of it, so nobody joins this thread.
    std::thread::spawn(move || stdin.write_all(&input));
    let (sender, output) = channel();
    send_chunks(stdout, sender, |bytes| bytes);
    Ok((child, output))
}

impl Drop for RunningMachine {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.stop(); // a test that failed reports its own error
        }
    }
}
