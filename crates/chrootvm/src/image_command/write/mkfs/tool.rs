//! Programs of the distribution: finding one, running it, telling how it failed.
//!
//! Interfaces: `machine::process::child` (a child that ends with this program), poll(2).
//! A program reads no terminal, is in no foreground, and ends if this program gets a signal
//! that ends it, or is killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use files::output;
use files::tell::printable;
use machine::doctor::gather::install_command;
use machine::doctor::packages::Tool;
use machine::host;
use machine::process::child::{SUBCOMMAND, describe};
use machine::process::wait::{Awaited, sleep};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Time between two looks for a signal that ends this program.
const PATIENCE: Duration = Duration::from_millis(100);
/// Most bytes of a program's output that are kept: a listing of the files of an image.
const OUTPUT_MAX: usize = 256 << 20;
/// Most bytes of a program's messages that are kept; the last ones count.
const MESSAGES_MAX: usize = 64 << 10;
/// Number of lines of a program's messages that an error shows: the first one, and the last.
const LINES: usize = 4;

/// A program that was found.
#[derive(Clone, Debug)]
pub(super) struct Program {
    name: String,
    path: PathBuf,
}

impl Program {
    /// Finds the program `name` of `tool` in PATH. A directory `sbin` counts too if its sibling
    /// `bin` is in PATH: users of Debian have no sbin in PATH, and mkfs is there.
    ///
    /// # Errors
    /// It is missing; the message names the command that installs it.
    pub(super) fn find(name: &'static str, tool: Tool) -> Result<Self> {
        let found = host::find_program(OsStr::new(name)).or_else(|| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let dirs = std::env::split_paths(&path).filter(|dir| dir.ends_with("bin"));
            let mut files = dirs.map(|dir| dir.with_file_name("sbin").join(name));
            files.find(|file| host::is_executable(file))
        });
        let path = found.with_context(|| missing(name, &install_command(tool)))?;
        Ok(Self { name: name.into(), path })
    }

    /// This program itself, with the name `name` in messages.
    pub(super) fn own(name: &str) -> Self {
        Self { name: name.into(), path: "/proc/self/exe".into() }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The program at `path`, which is known to exist.
    pub(super) fn at(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).display().to_string();
        Self { name, path }
    }
}

/// Text of the error for a program that is missing.
fn missing(name: &str, install: &str) -> String {
    format!("{name} makes this format, and is not in PATH: {install}")
}

/// One run of a program.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) program: &'a Program,
    pub(super) arguments: Vec<OsString>,
    /// Standard input; the image, which the program opens by its path.
    pub(super) stdin: Option<&'a File>,
    /// Standard output; if `None`, it is returned.
    pub(super) stdout: Option<&'a File>,
    /// Working directory.
    pub(super) directory: Option<&'a Path>,
    /// Variables to add to those of this program.
    pub(super) environment: Vec<(&'static str, String)>,
    /// File of the user namespace in which it runs.
    pub(super) user_namespace: Option<&'a Path>,
}

/// What a program has printed.
#[derive(Debug, Default)]
pub(super) struct Printed {
    pub(super) output: Vec<u8>,
    pub(super) messages: Vec<u8>,
}

impl Run<'_> {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// It cannot be started, or fails: with its status and lines of its messages. A signal that ends
    /// this program: then the program was ended before.
    pub(super) fn finish(self) -> Result<Printed> {
        let name = &self.program.name;
        let mut child = self.start().with_context(|| format!("start {name}"))?;
        let mut printed = Printed::default();
        if let Err(error) = collect(&mut child, &mut printed) {
            end(&mut child);
            return Err(error.context(name.clone()));
        }
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        if !status.success() {
            bail!("{}", failure(name, &describe(status), &printed.messages));
        }
        Ok(printed)
    }

    fn start(&self) -> Result<Child> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).args(["--parent", &std::process::id().to_string()]);
        if let Some(file) = self.user_namespace {
            command.arg("--user-namespace").arg(file);
        }
        command.arg("--").arg(&self.program.path).args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.process_group(0);
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        match self.stdin {
            Some(file) => command.stdin(file.try_clone()?),
            None => command.stdin(Stdio::null()),
        };
        match self.stdout {
            Some(file) => command.stdout(file.try_clone()?),
            None => command.stdout(Stdio::piped()),
        };
        Ok(command.stderr(Stdio::piped()).spawn()?)
    }
}

/// Ends a child, which then removes what it has made.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Nobody has waited for the child yet, so no other process has its id.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let _ = child.wait(); // it frees the process id; the reason for the end is known
}

/// Reads what `child` prints, until it closes its output.
fn collect(child: &mut Child, printed: &mut Printed) -> Result<()> {
    let (mut output, mut messages) = (child.stdout.take(), child.stderr.take());
    if let Some(pipe) = &output {
        no_waiting(pipe.as_fd())?;
    }
    if let Some(pipe) = &messages {
        no_waiting(pipe.as_fd())?;
    }
    while output.is_some() || messages.is_some() {
        let pipes = [output.as_ref().map(AsFd::as_fd), messages.as_ref().map(AsFd::as_fd)];
        let awaited: Vec<_> = pipes.into_iter().flatten().map(Awaited::readable).collect();
        sleep(&awaited, Some(Instant::now() + PATIENCE))?;
        output::check_signals()?;
        if is_at_end(output.as_mut(), &mut printed.output)? {
            output = None;
        }
        ensure!(printed.output.len() <= OUTPUT_MAX, "it prints too much");
        if is_at_end(messages.as_mut(), &mut printed.messages)? {
            messages = None;
        }
        let excess = printed.messages.len().saturating_sub(MESSAGES_MAX);
        printed.messages.drain(..excess);
    }
    Ok(())
}

/// Makes reads of a pipe return at once.
fn no_waiting(pipe: BorrowedFd<'_>) -> Result<()> {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl(F_SETFL)")?;
    Ok(())
}

/// Appends what is in the pipe to `bytes`. Returns whether the pipe has ended.
fn is_at_end(pipe: Option<&mut impl Read>, bytes: &mut Vec<u8>) -> Result<bool> {
    let Some(pipe) = pipe else { return Ok(true) };
    let mut buffer = [0; 1 << 14];
    match pipe.read(&mut buffer) {
        Ok(0) => Ok(true),
        Ok(count) => {
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(false)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(false)
        }
        Err(error) => Err(error).context("read what it prints"),
    }
}

/// Text of the error for a program that has failed.
fn failure(name: &str, status: &str, messages: &[u8]) -> String {
    let text = String::from_utf8_lossy(messages);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The first line may be the cause, and the last ones how to call the program.
    let told = match lines.len().checked_sub(LINES) {
        Some(cut @ 1..) => {
            let first = lines.iter().take(1);
            first.chain(&["…"]).chain(lines.iter().skip(cut + 1)).copied().collect()
        }
        _ => lines,
    };
    let last = printable(told.join("; ").as_bytes());
    match last.is_empty() {
        true => format!("{name} has failed without a message: {status}"),
        false => format!("{name} has failed: {status}: {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_status_and_the_last_lines() {
        for (messages, expected) in [
            (&b""[..], "x has failed without a message: exit status 1"),
            (b"one\n\n  two\x1b\n", "x has failed: exit status 1: one; two"),
            (b"1\n2\n3\n4\n5\n", "x has failed: exit status 1: 1; …; 3; 4; 5"),
        ] {
            let text = failure("x", "exit status 1", messages);
            assert_eq!(text.replace('\u{fffd}', ""), expected);
        }
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let text = missing("mkfs.xfs", "apt-get install xfsprogs");
        assert_eq!(
            text,
            "mkfs.xfs makes this format, and is not in PATH: apt-get install xfsprogs"
        );
        let error = Program::find("mkfs.none-such", Tool::Xfs).unwrap_err();
        assert!(format!("{error:#}").contains("xfsprogs"), "{error:#}");
    }
}
