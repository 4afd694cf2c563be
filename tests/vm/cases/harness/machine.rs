//! A machine that has not been booted yet: its root and the arguments of `chrootvm`.
//!
//! A boot goes through `scripts/chrootvm`, as a user's boot does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use xtask::testbed::HostKernel;

use crate::harness::finished::FinishedMachine;
use crate::harness::{RunningMachine, progress, running};

/// QEMU's options for a disk that the guest can only read.
pub(crate) fn read_only_disk(image: &Path) -> String {
    format!("-drive {}", drive(image))
}

fn drive(image: &Path) -> String {
    format!("file={},format=raw,if=virtio,readonly=on", image.display())
}

/// QEMU's options for a monitor on a socket, and for a port that takes a device later.
pub(crate) fn hotplug(monitor: &Path) -> String {
    let monitor = monitor.display();
    format!(
        "-device pcie-root-port,id=hotplug0,chassis=1 -monitor unix:{monitor},server=on,wait=off"
    )
}

/// A machine that has not been booted yet.
#[derive(Debug)]
pub(crate) struct Machine {
    program: PathBuf,
    directory: TempDir,
    options: Vec<OsString>,
    other_root: Option<PathBuf>,
    payload: Option<OsString>,
    input: Vec<u8>,
    silence_limit: Duration,
}

impl Machine {
    /// A machine that `program` starts; `directory` holds its files.
    pub(crate) fn new(program: PathBuf, directory: TempDir) -> Self {
        let (options, input) = (Vec::new(), Vec::new());
        let silence_limit = progress::SILENCE_LIMIT;
        Self { program, directory, options, other_root: None, payload: None, input, silence_limit }
    }

    /// This machine with another kernel than the one in its root.
    pub(crate) fn with_kernel(mut self, kernel: &HostKernel) -> Self {
        self.option("--kernel", &kernel.image);
        self.option("--modules", &kernel.modules);
        self
    }

    /// The root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.other_root.clone().unwrap_or_else(|| self.directory.path().join("root"))
    }

    /// Boots from `path` instead of the directory that was made for the machine.
    pub(crate) fn root_is(&mut self, path: &Path) {
        self.other_root = Some(path.to_path_buf());
    }

    /// A path beside the root that does not exist yet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new directory beside the root.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// Adds an option with its value.
    pub(crate) fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.options.extend([name.into(), value.as_ref().into()]);
    }

    /// Adds options, with their values if they have any.
    pub(crate) fn options(&mut self, words: &[&str]) {
        self.options.extend(words.iter().map(OsString::from));
    }

    /// Adds words to the kernel's command line.
    pub(crate) fn append(&mut self, words: &str) {
        self.option("--append", words);
    }

    /// Adds `--mount` or `--mount-ro` with a new directory, and returns that directory.
    pub(crate) fn mount(&mut self, option: &str, tag: &str) -> Result<PathBuf> {
        let path = self.directory(tag)?;
        self.options.extend([option.into(), tag.into(), path.clone().into()]);
        Ok(path)
    }

    /// Adds a disk that the guest can only read.
    pub(crate) fn disk(&mut self, image: &Path) {
        self.option("--qemu-arg", "-drive");
        self.option("--qemu-arg", drive(image));
    }

    /// Names the payload.
    pub(crate) fn payload(&mut self, path: &str) {
        self.payload = Some(path.into());
    }

    /// Boots with another `chrootvm` than the one of this source tree.
    pub(crate) fn program(&mut self, path: PathBuf) {
        self.program = path;
    }

    /// Text that the console reads; it is empty by default. `chrootvm` must watch the machine:
    /// otherwise, the guest loses the bytes that arrive before it opens its serial line.
    pub(crate) fn input(&mut self, text: &str) {
        self.input = text.into();
    }

    /// Sets how long the console may be silent before the boot counts as hung.
    pub(crate) fn silence_limit(&mut self, limit: Duration) {
        self.silence_limit = limit;
    }

    /// Replaces the packed initrd.
    pub(crate) fn initrd(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.path("initrd");
        std::fs::write(&path, bytes)?;
        // chrootvm refuses --modules beside --initrd.
        let at = self.options.iter().position(|option| option == "--modules");
        if let Some(at) = at {
            self.options.drain(at..at + 2);
        }
        self.option("--initrd", &path);
        Ok(())
    }

    /// The command line of `chrootvm`.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg(self.root()).args(&self.payload);
        command
    }

    /// The command line of `chrootvm` with `--dry-run`, which stands before ROOTFS: a word after
    /// the payload would make a command of both.
    pub(crate) fn dry_run(&self) -> Command {
        let direct = self.command();
        let mut command = Command::new(&self.program);
        command.arg("--dry-run").args(direct.get_args());
        command
    }

    /// Starts the machine with its console on pipes.
    pub(crate) fn start(&self) -> Result<RunningMachine> {
        self.start_command(self.command())
    }

    /// Starts the commands that `--dry-run` prints, with more `options` of QEMU. No
    /// `chrootvm` watches this machine.
    pub(crate) fn start_unwatched(&self, options: &str) -> Result<RunningMachine> {
        self.start_edited(options, &|commands| commands)
    }

    /// As [`Machine::start_unwatched`], with the commands changed by `edit`.
    pub(crate) fn start_edited(
        &self,
        options: &str,
        edit: &dyn Fn(String) -> String,
    ) -> Result<RunningMachine> {
        let printed = self.dry_run().stdin(Stdio::null()).output()?;
        let script = String::from_utf8(printed.stdout)?;
        let (commands, end) = script.trim_end().rsplit_once('\n').context("no commands")?;
        ensure!(end == ")", "the commands have changed: {script}");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{} {options}\n)", edit(commands.into())));
        self.start_command(shell)
    }

    fn start_command(&self, command: Command) -> Result<RunningMachine> {
        RunningMachine::start(command, &self.input, self.path("stderr"), self.silence_limit)
    }

    /// Boots the machine, and waits for its end.
    pub(crate) fn boot(self) -> Result<FinishedMachine> {
        let mut running = self.start()?;
        let status = running.wait()?;
        let finished = FinishedMachine {
            status: status.unwrap_or(-1),
            console: running.console(),
            messages: running.messages(),
            command: running.command(),
            directory: Some(self.directory),
        };
        match status {
            Some(_) => Ok(finished),
            None => Err(finished.failure(running::NOT_ENDED)),
        }
    }

    /// Boots systemd, which must be the payload, up to basic.target; no unit fails.
    pub(crate) fn boots_systemd(mut self) -> Result<()> {
        self.append("systemd.show_status=1 systemd.unit=basic.target");
        let mut running = self.start()?;
        running.wait_for("Basic System")?;
        // systemd reaches the target even if a unit has failed before.
        running.lacks("FAILED")?;
        running.stop()
    }

    /// Keeps the directory with the root, and returns its path.
    pub(crate) fn keep(self) -> PathBuf {
        self.directory.keep()
    }
}
