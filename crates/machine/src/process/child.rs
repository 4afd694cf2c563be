//! Programs that end with us.
//!
//! Interface: prctl(2), PR_SET_PDEATHSIG. A daemon must not outlive chrootvm,
//! not even when that is killed by SIGKILL; only the kernel can see to it, and
//! only a process itself can ask it to. So a child is started as this very
//! binary, which asks and then executes the program.

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

use super::signals::pass_on_defaults;
use crate::isolation::read_only::mount_read_only;

/// Bytes of a daemon's messages that are kept.
const MESSAGES_MAX: u64 = 64 << 10;

/// Name of the subcommand that [`Exec`] is.
pub const SUBCOMMAND: &str = "exec-bound";

/// Asks for a signal at the parent's death, then executes a program. Its arguments are
/// those of [`SUBCOMMAND`], which [`Child::spawn`] writes.
#[derive(Debug, Default)]
pub struct Exec {
    /// Process id of the parent, which may be gone already.
    parent: i32,
    /// The program becomes root of the user namespace that this file is.
    user_namespace: Option<PathBuf>,
    /// This directory is read-only for the program, whatever it does.
    read_only: Option<PathBuf>,
    /// The program and its arguments.
    command: Vec<OsString>,
}

impl Exec {
    /// Reads `--parent PID [--user-namespace FILE] [--read-only DIR] -- PROGRAM [ARG]...`.
    ///
    /// # Errors
    /// An argument that [`Child::spawn`] does not write.
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
                Some("--read-only") => parsed.read_only = Some(value.into()),
                _ => bail!("unknown option {}", option.display()),
            }
        }
        bail!("no program given")
    }

    /// Becomes the program.
    pub fn run(self) -> Result<()> {
        // Before the death signal, which a change of credentials may clear.
        if let Some(file) = &self.user_namespace {
            let enter = |file| setns(file, CloneFlags::CLONE_NEWUSER).map_err(Into::into);
            File::open(file)
                .and_then(enter)
                .with_context(|| format!("enter user namespace {}", file.display()))?;
        }
        // If our caller ignores SIGTERM, a daemon would ignore it as well and outlive
        // us.
        pass_on_defaults([Signal::SIGTERM])?;
        // SIGTERM lets QEMU put the terminal back in order.
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("prctl(PR_SET_PDEATHSIG)")?;
        if Pid::parent() != Pid::from_raw(self.parent) {
            bail!("the parent is gone");
        }
        // The parent reads its signals from a descriptor; this program must not
        // inherit that they are blocked.
        SigSet::empty().thread_set_mask().context("unblock signals")?;
        if let Some(dir) = &self.read_only {
            mount_read_only(dir).with_context(|| format!("mount {} read-only", dir.display()))?;
        }
        let (program, arguments) = self.command.split_first().context("no program given")?;
        let error = Command::new(program).args(arguments).exec();
        Err(error).with_context(|| format!("execute {}", program.display()))
    }
}

/// How a child takes part in the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has our terminal: its signals reach the child too.
    Terminal,
    /// Has our standard input and output, which are no terminal; we alone get
    /// the signals.
    Piped,
    /// Has no standard input or output. The directory is read-only for it.
    Daemon {
        /// See `exec-bound --read-only`.
        read_only: Option<PathBuf>,
        /// See `exec-bound --user-namespace`.
        user_namespace: Option<PathBuf>,
    },
}

/// A running program, killed when this value is dropped.
#[derive(Debug)]
pub struct Child {
    /// What to call it in messages.
    pub name: String,
    process: std::process::Child,
    status: Option<ExitStatus>,
    /// What a daemon wrote to standard error.
    messages: Option<File>,
}

impl Child {
    /// Starts `program`. Each descriptor of `fds` is open in it under the given
    /// number.
    pub fn spawn(
        name: String,
        program: &Path,
        arguments: &[OsString],
        fds: Vec<(OwnedFd, i32)>,
        role: Role,
    ) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).args(["--parent", &std::process::id().to_string()]);
        let mut messages = None;
        if role != Role::Terminal {
            command.process_group(0);
        }
        if let Role::Daemon { read_only, user_namespace } = role {
            let options = [("--user-namespace", user_namespace), ("--read-only", read_only)];
            for (option, value) in options {
                command.args(value.iter().flat_map(|path| [option.as_ref(), path.as_os_str()]));
            }
            // It cannot grow: a guest may make its daemon talk without end.
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let file = File::from(memfd_create(c"messages", flags)?);
            file.set_len(MESSAGES_MAX)?;
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW))?;
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(file.try_clone()?);
            messages = Some(file);
        }
        command.arg("--").arg(program).args(arguments);
        let mappings =
            fds.into_iter().map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).context("descriptors of a child collide")?;
        let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { name, process, status: None, messages })
    }

    /// How the child ended; `None` while it runs.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status =
                self.process.try_wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Sends `signal`; a child that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none()
            && let Ok(pid) = i32::try_from(self.process.id())
        {
            // Not yet waited for, so the number is still its own; it may have
            // ended, and then the signal is void.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// The end of what a daemon wrote to standard error, where a guest may have
    /// chosen a word.
    pub fn messages(&mut self) -> String {
        /// Bytes enough for a screen.
        const TAIL: u64 = 2000;
        let mut text = Vec::new();
        if let Some(file) = &mut self.messages {
            // The daemon writes through a copy of this descriptor: its position
            // is ours. Without its words the message is poorer, not wrong.
            let written = file.stream_position().unwrap_or_default();
            let start = written.saturating_sub(TAIL);
            let tail = file.seek(SeekFrom::Start(start));
            let _ = tail.and_then(|_| file.take(written - start).read_to_end(&mut text));
        }
        printable(&text).trim_end().to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.process.wait(); // it was killed; only its number is still to be freed
        }
    }
}

/// `exit status 1` or `signal 9`, for messages.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}
