//! One `chrootvm ROOTFS -- COMMAND`, as whoever calls it sees it: what goes in,
//! what comes out of either stream, the status.
//!
//! A run has a deadline. A run that is not as it should be shows both streams,
//! the status and the command that repeats it, and its root is kept.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::testbed;

use crate::harness::{Bed, Guest};
use crate::processes;

/// A run takes 3 s here; this is for those that hang.
const DEADLINE: Duration = Duration::from_secs(120);

/// Bytes of a stream that a failure shows.
const SHOWN: usize = 1500;

impl Bed {
    /// `words` in a machine with a busybox root and the testbed's kernel.
    pub(crate) fn run(&self, words: &[&str]) -> Result<CommandRun> {
        let guest = self.bare_guest()?;
        testbed::make_root(&guest.root(), &self.busybox, &[])?;
        Ok(CommandRun::new(guest, words))
    }

    /// `script` for the shell of a busybox root.
    pub(crate) fn sh(&self, script: &str) -> Result<CommandRun> {
        self.run(&["sh", "-c", script])
    }

    /// `script` for the shell of a root that holds one static program, and not
    /// even a directory.
    pub(crate) fn scratch(&self, script: &str) -> Result<CommandRun> {
        let guest = self.bare_guest()?;
        std::fs::copy(&self.busybox, guest.root().join("busybox")).context("copy busybox")?;
        Ok(CommandRun::new(guest, &["/busybox", "sh", "-c", script]))
    }

    /// `script` for the shell of Debian, with Debian's own kernel.
    pub(crate) fn debian(&self, script: &str) -> Result<CommandRun> {
        let root = testbed::debian(&self.workspace).context("make a Debian")?;
        Ok(CommandRun::new(self.command_guest_on(&root)?, &["sh", "-c", script]))
    }
}

/// Warning of chrootvm about a boot that hung in the kernel and that it has started
/// again, which QEMU 7.2 without KVM causes now and then. It is no failure of the
/// run.
pub(crate) const RESTARTED: &str = "warning: the guest's kernel is stuck; it is started again\n";

/// A run that has not begun.
#[derive(Debug)]
pub(crate) struct CommandRun {
    pub(crate) guest: Guest,
    words: Vec<OsString>,
    input: Vec<u8>,
    wrapper: Option<String>,
    variables: Vec<(String, OsString)>,
}

impl CommandRun {
    pub(crate) fn new(guest: Guest, words: &[&str]) -> Self {
        let words = words.iter().map(OsString::from).collect();
        Self { guest, words, input: Vec::new(), wrapper: None, variables: Vec::new() }
    }

    /// More options of chrootvm.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.guest.options(options);
        self
    }

    /// One more word of the command.
    pub(crate) fn word(&mut self, word: impl Into<OsString>) {
        self.words.push(word.into());
    }

    /// What standard input reads; nothing by default.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Lets a shell of the host run `script`, in which `"$@"` is chrootvm with
    /// all of its arguments.
    pub(crate) fn through(mut self, script: &str) -> Self {
        self.wrapper = Some(script.into());
        self
    }

    /// A variable of chrootvm's own environment.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    /// `-v SOURCE:TARGET`
    pub(crate) fn volume(&mut self, source: &Path, target: &str) {
        let value = [source.as_os_str().as_bytes(), b":", target.as_bytes()].concat();
        self.guest.option("-v", OsStr::from_bytes(&value));
    }

    /// The command line.
    pub(crate) fn command(&self) -> Command {
        let mut direct = self.guest.command();
        direct.arg("--").args(&self.words);
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

    /// Starts it.
    pub(crate) fn start(self) -> Result<Live> {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What a shell of the host starts is to be found if it hangs.
        let mut child = command.process_group(0).spawn().context("start chrootvm")?;
        let (sender, chunks) = channel();
        read_all(child.stdout.take().context("stdout")?, 0, sender.clone());
        read_all(child.stderr.take().context("stderr")?, 1, sender);
        let mut stdin = child.stdin.take().context("stdin")?;
        let input = self.input.clone();
        // A command need not read all of it.
        std::thread::spawn(move || stdin.write_all(&input));
        let deadline = Instant::now() + DEADLINE;
        let process = Process(child);
        Ok(Live { run: self, process, chunks, output: Default::default(), deadline })
    }

    /// Runs it to its end.
    pub(crate) fn finish(self) -> Result<Finished> {
        self.start()?.finish()
    }
}

/// Sends all that `from` has to say, as that of stream `number`.
fn read_all(mut from: impl Read + Send + 'static, number: usize, sender: Sender<(usize, Vec<u8>)>) {
    std::thread::spawn(move || {
        let mut chunk = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if sender.send((number, chunk[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct Live {
    run: CommandRun,
    process: Process,
    chunks: Receiver<(usize, Vec<u8>)>,
    output: [Vec<u8>; 2],
    deadline: Instant,
}

impl Live {
    /// Process id of chrootvm, or of the shell around it.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.0.id()).unwrap_or(i32::MAX))
    }

    /// Sends a signal to chrootvm.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal}"))
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

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        let end = loop {
            match self.receive() {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        let hangs = end == RecvTimeoutError::Timeout || !self.ends_in_time()?;
        if hangs {
            self.process.kill();
        }
        let status = self.process.0.wait()?;
        let status = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        let command = format!("{:?}", self.run.command());
        let output = std::mem::take(&mut self.output);
        let finished = Finished { status, output, command, guest: self.run.guest };
        match hangs {
            true => Err(finished.failure("it has not ended")),
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

/// chrootvm, or the shell around it: killed with its family when dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn kill(&self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX));
        for (pid, _) in processes::family(pid).unwrap_or_default() {
            let _ = kill(pid, Signal::SIGKILL); // it may have ended meanwhile
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.kill();
            let _ = self.0.wait(); // it was killed
        }
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: i32,
    /// Standard output, standard error.
    output: [Vec<u8>; 2],
    command: String,
    guest: Guest,
}

impl Finished {
    pub(crate) fn stdout(&self) -> &[u8] {
        &self.output[0]
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output[1]).into_owned()
    }

    /// This status, and both streams to the byte.
    pub(crate) fn is(
        mut self,
        status: i32,
        stdout: impl AsRef<[u8]>,
        stderr: &str,
    ) -> Result<Guest> {
        if !stderr.contains(RESTARTED) {
            self.forget_restart();
        }
        let is_it = self.status == status
            && self.output[0] == stdout.as_ref()
            && self.output[1] == stderr.as_bytes();
        let expected = [stdout.as_ref().to_vec(), stderr.into()];
        self.check(is_it, || format!("expected: exit status {status}\n{}", shown(&expected)))
    }

    /// This status, nothing but `stdout` on standard output, and all of `words`
    /// on standard error.
    pub(crate) fn says(mut self, status: i32, stdout: &str, words: &[&str]) -> Result<Guest> {
        self.forget_restart();
        let stderr = self.stderr();
        let missing = words.iter().find(|word| !stderr.contains(**word));
        let is_it = missing.is_none()
            && self.status == status
            && self.output[0] == stdout.as_bytes()
            && (!words.is_empty() || stderr.is_empty());
        self.check(is_it, || {
            format!("expected: exit status {status}, {stdout:?} on stdout, {words:?} on stderr")
        })
    }

    fn forget_restart(&mut self) {
        let stderr = self.stderr();
        // A line of its own: the guest may write what it likes.
        let at = if stderr.starts_with(RESTARTED) { Some(0) } else { None };
        let at = at.or_else(|| Some(stderr.find(&format!("\n{RESTARTED}"))? + 1));
        if let Some(at) = at {
            eprintln!("note: QEMU has hung in a boot, which was started again");
            self.output[1].drain(at..at + RESTARTED.len());
        }
    }

    /// `is_it`, or a failure that explains `why`.
    pub(crate) fn check(self, is_it: bool, why: impl FnOnce() -> String) -> Result<Guest> {
        if is_it { Ok(self.guest) } else { Err(self.failure(&why())) }
    }

    pub(crate) fn failure(self, why: &str) -> anyhow::Error {
        let Self { status, output, command, guest } = self;
        let kept = guest.keep();
        anyhow!(
            "{why}\n--- got: exit status {status}\n{}\n--- repeat with\n{command}\n--- kept: {}",
            shown(&output),
            kept.display()
        )
    }
}

/// Both streams, the middle left out where they are long.
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
