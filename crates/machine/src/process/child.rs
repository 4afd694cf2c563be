//! Children that end together with chrootvm.
//!
//! Interface: prctl(2), PR_SET_PDEATHSIG. A daemon must not outlive chrootvm, even if
//! chrootvm is killed by SIGKILL. The kernel can kill a child at its parent's death, but only
//! the child itself can ask for that. So chrootvm starts its own binary again; the child asks
//! the kernel, and then executes the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use command_fds::{CommandFdExt, FdMapping};
use files::tell::printable;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::notify::NOTIFY_SOCKET;
use super::signals::pass_on_defaults;
use crate::isolation::read_only::mount_read_only;
use crate::isolation::{private_mounts, single_file};

/// Size in bytes of the file for a child's messages.
const MESSAGES_MAX: u64 = 64 << 10;

/// Name of the subcommand that runs [`BoundExec`].
pub const SUBCOMMAND: &str = "exec-bound";

/// Body of [`SUBCOMMAND`]: asks the kernel for a signal at the parent's death, then executes
/// a program. [`Child::spawn`] writes its arguments.
#[derive(Debug, Default)]
pub struct BoundExec {
    /// Process id of the parent, which may have ended already.
    parent: i32,
    /// File of the user namespace in which the program becomes root.
    user_namespace: Option<PathBuf>,
    /// File that is mounted for the program ([`single_file::mount`]).
    file: Option<PathBuf>,
    /// Directory that is mounted read-only for the program.
    read_only: Option<PathBuf>,
    /// The program and its arguments.
    command: Vec<OsString>,
}

impl BoundExec {
    /// Parses `--parent PID [--user-namespace FILE] [--file FILE] [--read-only DIR] -- PROGRAM [ARG]...`.
    ///
    /// # Errors
    /// An argument is missing or unknown.
    pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut parsed = Self::default();
        while let Some(option) = arguments.next() {
            if option == "--" {
                parsed.command = arguments.collect();
                return Ok(parsed);
            }
            let value = arguments.next().context("an option without a value")?;
            match option.to_str() {
                Some("--parent") => {
                    let pid = value.to_str().and_then(|pid| pid.parse().ok());
                    parsed.parent = pid.context("--parent takes a process id")?;
                }
                Some("--user-namespace") => parsed.user_namespace = Some(value.into()),
                Some("--file") => parsed.file = Some(value.into()),
                Some("--read-only") => parsed.read_only = Some(value.into()),
                _ => bail!("unknown option {}", option.display()),
            }
        }
        bail!("no program given")
    }

    /// Executes the program in place of this process.
    ///
    /// # Errors
    /// A preparation failed, or the program cannot be executed.
    pub fn run(self) -> Result<()> {
        // Enter before asking for the death signal: a change of credentials clears it.
        if let Some(file) = &self.user_namespace {
            let enter = |file| setns(file, CloneFlags::CLONE_NEWUSER).map_err(Into::into);
            File::open(file)
                .and_then(enter)
                .with_context(|| format!("enter user namespace {}", file.display()))?;
        }
        // If the caller of chrootvm ignores SIGTERM, the daemon would inherit that and
        // outlive chrootvm.
        pass_on_defaults([Signal::SIGTERM])?;
        // SIGTERM lets QEMU close its disks.
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("prctl(PR_SET_PDEATHSIG)")?;
        if Pid::parent() != Pid::from_raw(self.parent) {
            bail!("the parent is gone");
        }
        // The parent blocks signals to read them from a descriptor. The program must not
        // inherit the blocked signals.
        SigSet::empty().thread_set_mask().context("unblock signals")?;
        if self.file.is_some() || self.read_only.is_some() {
            private_mounts::enter()?;
        }
        if let Some(file) = &self.file {
            single_file::mount(file)
                .with_context(|| format!("share the file {}", file.display()))?;
        }
        if let Some(dir) = &self.read_only {
            mount_read_only(dir).with_context(|| format!("mount {} read-only", dir.display()))?;
        }
        let (program, arguments) = self.command.split_first().context("no program given")?;
        let error = Command::new(program).args(arguments).exec();
        Err(error).with_context(|| format!("execute {}", program.display()))
    }
}

/// Confinement of a child. No child has the terminal or the standard streams of chrootvm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// File that is mounted for the child ([`single_file::mount`]).
    pub file: Option<PathBuf>,
    /// Directory that is mounted read-only for the child.
    pub read_only: Option<PathBuf>,
    /// File of the user namespace in which the child is root.
    pub user_namespace: Option<PathBuf>,
}

/// A running program; dropping this value kills it.
#[derive(Debug)]
pub struct Child {
    /// Name of the program in messages.
    pub name: String,
    process: std::process::Child,
    status: Option<ExitStatus>,
    /// File to which the child writes its standard error.
    messages: File,
}

impl Child {
    /// Starts `program`. The child inherits each descriptor of `fds` under the number beside
    /// it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(
        name: String,
        program: &Path,
        arguments: &[OsString],
        fds: Vec<(OwnedFd, i32)>,
        confinement: &Confinement,
    ) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).args(["--parent", &std::process::id().to_string()]);
        command.env_remove(NOTIFY_SOCKET);
        // In a process group of its own, so that no key of the terminal sends it a signal.
        command.process_group(0);
        let options = [
            ("--user-namespace", &confinement.user_namespace),
            ("--file", &confinement.file),
            ("--read-only", &confinement.read_only),
        ];
        for (option, value) in options {
            command.args(value.iter().flat_map(|path| [option.as_ref(), path.as_os_str()]));
        }
        // The seal limits the size: a guest may be able to make its daemon print without end.
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let messages = File::from(memfd_create(c"messages", flags)?);
        messages.set_len(MESSAGES_MAX)?;
        fcntl(&messages, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages.try_clone()?);
        command.arg("--").arg(program).args(arguments);
        let mappings =
            fds.into_iter().map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).context("descriptors of a child collide")?;
        let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { name, process, status: None, messages })
    }

    /// Exit status of the child; `None` while it runs.
    ///
    /// # Errors
    /// wait(2) failed.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status =
                self.process.try_wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Sends `signal` if the child still runs.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none()
            && let Ok(pid) = i32::try_from(self.process.id())
        {
            // Nobody has waited for the child, so no other process can have its id. If it
            // has ended, the signal has no effect.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Tail of the child's standard error, in printable characters: it may contain text that
    /// the guest chose.
    pub fn messages(&mut self) -> String {
        /// Maximum length in bytes; about one screen.
        const TAIL: u64 = 2000;
        let mut text = Vec::new();
        // The child writes through a copy of this descriptor, so both have the same position. If
        // reading fails, only the detail is missing in our message.
        let written = self.messages.stream_position().unwrap_or_default();
        let start = written.saturating_sub(TAIL);
        let tail = self.messages.seek(SeekFrom::Start(start));
        let tail = tail.map(|_| (&self.messages).take(written - start));
        let _ = tail.and_then(|mut tail| tail.read_to_end(&mut text)); // see above
        printable(&text).trim_end().to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.process.wait(); // the child was killed; this frees its process id
        }
    }
}

/// Text of an exit status for messages, such as `exit status 1` or `signal 9`.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}
