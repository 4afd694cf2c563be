//! One boot of a test: a root, a script that becomes PID 1, what it printed.
//!
//! A boot goes through `scripts/chrootvm` as a user's does. It has a deadline,
//! and whatever fails shows the console, standard error and the command that
//! repeats it; the root is kept then.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use xtask::testbed::{self, HostKernel};

use crate::boot::Boot;

/// A boot takes 2 s here, that of systemd 30 s; a machine under load gets more.
const DEADLINE: Duration = Duration::from_secs(180);

/// Kernel message about a processor that is stuck in the kernel (`watchdog_timer_fn()` of
/// `kernel/watchdog.c`). QEMU 7.2 without KVM causes that in one boot of a
/// thousand or so, before anything of ours runs.
const LOCKUP: &str = "watchdog: BUG: soft lockup - CPU#";

/// The tree.
pub(crate) fn workspace() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    Ok(workspace.context("the package has moved")?.to_path_buf())
}

/// What all tests share.
#[derive(Clone, Debug)]
pub(crate) struct Bed {
    pub(crate) workspace: PathBuf,
    pub(crate) kernel: HostKernel,
    pub(crate) busybox: PathBuf,
    /// The virtiofsd to run instead of the installed one.
    pub(crate) virtiofsd: Option<PathBuf>,
}

impl Bed {
    /// # Errors
    /// What is missing here to boot machines.
    pub(crate) fn new() -> Result<Self> {
        let workspace = workspace()?;
        for built in ["target/release/chrootvm", "target/guest/init"] {
            ensure!(workspace.join(built).exists(), "{built} is missing: run `make` first");
        }
        machine::process::virtiofsd::find(None)?;
        let kernel = testbed::kernel(&workspace)?;
        let busybox = testbed::busybox()?;
        Ok(Self { workspace, kernel, busybox, virtiofsd: None })
    }

    /// This bed with the Rust virtiofsd that the testbed built.
    ///
    /// # Errors
    /// It has not been built.
    pub(crate) fn with_rust_virtiofsd(&self) -> Result<Self> {
        let program = testbed::virtiofsd_program(&self.workspace)?;
        ensure!(program.exists(), "{} is missing: `cargo xtask test` builds it", program.display());
        Ok(Self { virtiofsd: Some(program), ..self.clone() })
    }

    /// The built `/init`.
    pub(crate) fn init(&self) -> PathBuf {
        self.workspace.join("target/guest/init")
    }

    /// A machine with a busybox root and the testbed's kernel, whose PID 1 is a
    /// script that runs `body` and powers off.
    pub(crate) fn guest(&self, body: &str) -> Result<Guest> {
        let mut guest = self.bare_guest()?;
        // By its path: without /proc a busybox shell finds no applets.
        let script = format!("#!/bin/sh\n{body}\n/bin/busybox poweroff -f\n");
        testbed::make_root(&guest.root(), &self.busybox, &[("bin/test-init", &script)])?;
        guest.payload = Some("test-init".into());
        Ok(guest)
    }

    /// As [`Bed::guest`], with an empty root and the default payload.
    pub(crate) fn bare_guest(&self) -> Result<Guest> {
        let dir = tempfile::Builder::new().prefix("virtinitrd-test-").tempdir()?;
        std::fs::create_dir(dir.path().join("root"))?;
        let mut guest = self.any_guest(dir);
        guest.option("--kernel", &self.kernel.image);
        guest.option("--modules", &self.kernel.modules);
        Ok(guest)
    }

    /// A machine on a root that is not made here, with the kernel in it.
    pub(crate) fn guest_on(&self, root: &Path, payload: &str) -> Result<Guest> {
        let mut guest = self.command_guest_on(root)?;
        guest.payload = Some(payload.into());
        Ok(guest)
    }

    /// As [`Bed::guest_on`], without a PID 1 of its own.
    pub(crate) fn command_guest_on(&self, root: &Path) -> Result<Guest> {
        let dir = tempfile::Builder::new().prefix("virtinitrd-test-").tempdir()?;
        let mut guest = self.any_guest(dir);
        guest.foreign_root = Some(root.to_path_buf());
        Ok(guest)
    }

    fn any_guest(&self, dir: TempDir) -> Guest {
        let mut guest = Guest::new(self.workspace.join("scripts/chrootvm"), dir);
        if let Some(program) = &self.virtiofsd {
            guest.option("--virtiofsd", program);
        }
        guest
    }
}

/// A machine that has not been booted yet.
#[derive(Debug)]
pub(crate) struct Guest {
    program: PathBuf,
    dir: TempDir,
    options: Vec<OsString>,
    foreign_root: Option<PathBuf>,
    payload: Option<OsString>,
    input: Vec<u8>,
}

impl Guest {
    fn new(program: PathBuf, dir: TempDir) -> Self {
        let (options, input) = (Vec::new(), Vec::new());
        Self { program, dir, options, foreign_root: None, payload: None, input }
    }

    /// The root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.foreign_root.clone().unwrap_or_else(|| self.dir.path().join("root"))
    }

    /// A new directory beside the root.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    pub(crate) fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.options.extend([name.into(), value.as_ref().into()]);
    }

    /// Options that have no value, or their values.
    pub(crate) fn options(&mut self, words: &[&str]) {
        self.options.extend(words.iter().map(OsString::from));
    }

    pub(crate) fn append(&mut self, words: &str) {
        self.option("--append", words);
    }

    /// `--mount` or `--mount-ro` with a new directory, which is returned.
    pub(crate) fn mount(&mut self, option: &str, tag: &str) -> Result<PathBuf> {
        let path = self.directory(tag)?;
        self.options.extend([option.into(), tag.into(), path.clone().into()]);
        Ok(path)
    }

    pub(crate) fn payload(&mut self, path: &str) {
        self.payload = Some(path.into());
    }

    /// Boots with another chrootvm than the tree's.
    pub(crate) fn program(&mut self, path: PathBuf) {
        self.program = path;
    }

    /// Keeps the directory with the root, and tells where it is.
    pub(crate) fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// A path beside the root that does not exist yet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the console reads. Opening a serial line empties its receiver, so
    /// the first bytes get lost: they are blank lines here.
    pub(crate) fn input(&mut self, text: &str) {
        self.input = format!("{}{text}", "\n".repeat(32)).into();
    }

    /// Boots from `path` instead of the directory that was made for it.
    pub(crate) fn root_is(&mut self, path: &Path) {
        self.foreign_root = Some(path.to_path_buf());
    }

    /// Replaces the packed initrd.
    pub(crate) fn initrd(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.dir.path().join("initrd");
        std::fs::write(&path, bytes)?;
        // The packed one's modules would contradict it.
        let at = self.options.iter().position(|option| option == "--modules");
        if let Some(at) = at {
            self.options.drain(at..at + 2);
        }
        self.option("--initrd", &path);
        Ok(())
    }

    /// The command line of chrootvm.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg(self.root()).args(&self.payload);
        command
    }

    /// Starts the machine with its console on pipes.
    pub(crate) fn start(&self) -> Result<Running> {
        self.start_command(self.command())
    }

    /// Starts the commands that `--dry-run` prints, QEMU's with more `options`:
    /// the machine alone, with nobody to watch over it.
    pub(crate) fn start_unwatched(&self, options: &str) -> Result<Running> {
        self.start_edited(options, &|commands| commands)
    }

    /// As [`Guest::start_unwatched`], with the commands changed by `edit`.
    pub(crate) fn start_edited(
        &self,
        options: &str,
        edit: &dyn Fn(String) -> String,
    ) -> Result<Running> {
        let printed = self.command().arg("--dry-run").stdin(Stdio::null()).output()?;
        let script = String::from_utf8(printed.stdout)?;
        let (commands, end) = script.trim_end().rsplit_once('\n').context("no commands")?;
        ensure!(end == ")", "the commands have changed: {script}");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{} {options}\n)", edit(commands.into())));
        self.start_command(shell)
    }

    fn start_command(&self, mut command: Command) -> Result<Running> {
        // A file, for a pipe that nobody reads would stop a talkative QEMU.
        let messages = self.dir.path().join("stderr");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        command.stderr(std::fs::File::create(&messages)?);
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let (mut stdin, mut stdout) =
            (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
        let input = self.input.clone();
        // The end of its input does not end a machine, so nobody waits here.
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + DEADLINE;
        Ok(Running { child, output: lines, console: Vec::new(), messages, deadline })
    }

    /// Boots, and waits for the end. A boot that hangs in the kernel is started
    /// again, once.
    pub(crate) fn boot(self) -> Result<Boot> {
        let mut running = self.start()?;
        let mut finished = running.finish_unless(Some(LOCKUP));
        if let Ok(None) = finished {
            eprintln!("note: QEMU has hung in a boot, which is started again");
            running.stop()?;
            running = self.start()?;
            finished = running.finish().map(Some);
        }
        let console = text(&running.console);
        let messages = text(&std::fs::read(&running.messages).unwrap_or_default());
        let command = format!("{:?}", self.command());
        let boot = Boot { status: -1, console, messages, command, dir: Some(self.dir) };
        match finished {
            Ok(status) => Ok(Boot { status: status.unwrap_or(-1), ..boot }),
            Err(error) => Err(boot.failure(&format!("{error:#}"))),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    pub(crate) console: Vec<u8>,
    messages: PathBuf,
    deadline: Instant,
}

/// The console and standard error of a machine, as text.
impl std::fmt::Display for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let messages = std::fs::read(&self.messages).unwrap_or_default();
        write!(f, "{}\n--- stderr\n{}", text(&self.console), text(&messages))
    }
}

impl Running {
    /// Process id of chrootvm.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits until the console has shown `marker`.
    pub(crate) fn wait_for(&mut self, marker: &str) -> Result<()> {
        while !text(&self.console).contains(marker) {
            match self.output.recv_timeout(self.time_left()) {
                Ok(bytes) => self.console.extend(bytes),
                Err(error) => {
                    bail!("no \"{marker}\" ({error}) in:\n{self}");
                }
            }
        }
        Ok(())
    }

    /// Ends the machine; chrootvm, or the shell, ends what it started.
    pub(crate) fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(-self.pid().as_raw()), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the end; the exit status as a shell sees it.
    pub(crate) fn finish(&mut self) -> Result<i32> {
        Ok(self.finish_unless(None)?.unwrap_or(-1))
    }

    /// As [`Running::finish`]; `None` once the console shows `marker`.
    fn finish_unless(&mut self, marker: Option<&str>) -> Result<Option<i32>> {
        use std::os::unix::process::ExitStatusExt;
        loop {
            match self.output.recv_timeout(self.time_left()) {
                Ok(bytes) => {
                    let known = self.console.len();
                    self.console.extend(bytes);
                    // It may have begun in what was known.
                    let fresh = |marker: &&str| &self.console[known.saturating_sub(marker.len())..];
                    if marker.is_some_and(|marker| text(fresh(&marker)).contains(marker)) {
                        return Ok(None);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.stop()?;
                    bail!("it has not ended in {} s", DEADLINE.as_secs());
                }
            }
        }
        let status = self.child.wait()?;
        Ok(status.code().or(status.signal().map(|signal| 128 + signal)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.stop(); // a test that failed has more to say than this
        }
    }
}
