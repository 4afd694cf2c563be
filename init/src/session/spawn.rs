//! Starting the command as a child.
//!
//! Interfaces: fork(2), setsid(2), credentials(7), execve(2). What can be
//! decided is decided before the fork; the child only makes system calls.

use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::CStr;
use core::fmt;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{Gid, Uid};
use virtinitrd_proto::settings::Request;
use virtinitrd_proto::text::show;

use super::user::User;
use crate::error::{Error, Hints, NO_HINT, hint_for};
use crate::payload::{DEFAULT_PATH, EXEC_HINTS};
use crate::{file, program, rt};

/// Exit status of a command that was found but cannot be executed, as a shell
/// has it.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status where no such command was found.
const NOT_FOUND: u8 = 127;
/// Exit status where something of ours failed.
pub const TROUBLE: u8 = 125;

/// Most descriptors a process may have open, if it asks for more than the
/// kernel's 1024; systemd gives its services as many.
const DESCRIPTORS_MAX: u64 = 524_288;

/// Why the command does not run.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit status that tells.
    pub status: u8,
    /// One line for a person.
    pub message: Box<str>,
}

impl Failure {
    /// Trouble of ours.
    #[must_use]
    pub fn trouble(error: Error) -> Self {
        Self { status: TROUBLE, message: error.into_line() }
    }

    fn of(operation: &str, errno: Errno) -> Self {
        Self::trouble(Error::sys(format_args!("{operation}"), errno, ""))
    }
}

/// The child's standard streams.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub input: OwnedFd,
    /// Standard output.
    pub output: OwnedFd,
    /// Standard error.
    pub error: OwnedFd,
    /// Whose session the command is in.
    pub session: Session,
}

/// The session of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Its own, without a terminal.
    Bare,
    /// Its own, controlled by the terminal that the three streams are.
    Terminal,
    /// PID 1's, whose terminal, if it has one, the command's process group gets:
    /// when the leader of a session ends its terminal hangs up, and a serial line
    /// loses what was not sent yet.
    Shared,
}

/// What the child does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Session,
    Streams,
    Identity,
    Directory,
    Execute,
}

const STEPS: &[Step] =
    &[Step::Session, Step::Streams, Step::Identity, Step::Directory, Step::Execute];

/// A child about to be, ready but for the fork.
struct Plan<'a> {
    /// What to try to execute, in order.
    paths: Vec<CString>,
    args: &'a [&'a CStr],
    env: Vec<&'a CStr>,
    cwd: &'a CStr,
    user: &'a User<'a>,
    stdio: Stdio,
}

/// Starts the command of `request`. The child leads a process group of its own.
pub fn spawn(request: &Request<'_>, user: &User<'_>, stdio: Stdio) -> Result<Pid, Failure> {
    let what = |operation| move |errno| Failure::of(operation, errno);
    let home = home(user)?;
    let plan = Plan::new(request, user, &home, stdio);
    let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).map_err(what("make a pipe"))?;
    let Some(pid) = rt::process::fork().map_err(what("fork"))? else {
        let Err((step, errno)) = plan.become_command();
        let [low, high, ..] = errno.raw_os_error().to_le_bytes();
        // The parent reads it, or is gone.
        let _ = file::write_all(&child_report, &[step as u8, low, high]);
        rt::exit(NOT_FOUND.into());
    };
    drop(child_report);
    let mut told = [0; 3];
    match rustix::io::read(&report, &mut told) {
        Ok(3) => {
            let [step, low, high] = told;
            let step = STEPS.iter().find(|known| **known as u8 == step).copied();
            let errno = Errno::from_raw_os_error(i32::from_le_bytes([low, high, 0, 0]));
            Err(plan.explain(step.unwrap_or(Step::Execute), errno))
        }
        // The pipe was closed by execve(2).
        _ => Ok(pid),
    }
}

/// Becomes the command of `request`, in a child that was forked already; returns
/// where that fails.
pub fn execute(request: &Request<'_>, user: &User<'_>, stdio: Stdio) -> Result<(), Failure> {
    let home = home(user)?;
    let plan = Plan::new(request, user, &home, stdio);
    let Err((step, errno)) = plan.become_command();
    Err(plan.explain(step, errno))
}

fn home(user: &User<'_>) -> Result<CString, Failure> {
    let variable = file::c_string(&[b"HOME=", user.home]);
    variable.map_err(|errno| Failure::of("name the home directory", errno))
}

/// What was asked for, and `PATH` and `HOME` where they were not.
fn environment<'a>(wanted: &[&'a CStr], home: &'a CStr) -> Vec<&'a CStr> {
    let name = |variable: &'a CStr| variable.to_bytes().split(|&byte| byte == b'=').next();
    let mut env: Vec<&CStr> = wanted.to_vec();
    for default in [DEFAULT_PATH, home] {
        if !env.iter().any(|&variable| name(variable) == name(default)) {
            env.push(default);
        }
    }
    env
}

/// The files that `name` may mean (execvp(3)).
fn candidates(name: &[u8], path: &[u8]) -> Vec<CString> {
    if name.contains(&b'/') {
        return file::c_string(&[name]).into_iter().collect();
    }
    let mut found = Vec::new();
    for dir in path.split(|&byte| byte == b':').filter(|_| !name.is_empty()) {
        // An empty entry is the working directory.
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        found.extend(file::c_string(&[dir, slash, name]));
    }
    found
}

impl<'a> Plan<'a> {
    fn new(request: &'a Request<'_>, user: &'a User<'_>, home: &'a CStr, stdio: Stdio) -> Plan<'a> {
        let name = request.args.first().copied().unwrap_or_default();
        let env = environment(&request.env, home);
        let path = env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
        let paths = candidates(name.to_bytes(), path.unwrap_or_default());
        Self { paths, args: &request.args, env, cwd: request.cwd.unwrap_or(c"/"), user, stdio }
    }

    /// In the child: becomes the command.
    fn become_command(&self) -> Result<Infallible, (Step, Errno)> {
        let at = |step| move |errno| (step, errno);
        self.start_session().map_err(at(Step::Session))?;
        self.set_streams().map_err(at(Step::Streams))?;
        self.set_identity().map_err(at(Step::Identity))?;
        rustix::process::chdir(self.cwd).map_err(at(Step::Directory))?;
        rt::process::unblock_signals();
        Err((Step::Execute, self.execute()))
    }

    fn start_session(&self) -> Result<(), Errno> {
        let Stdio { input, session, .. } = &self.stdio;
        match session {
            Session::Shared => {
                rustix::process::setpgid(None, None)?;
                // It need not be a terminal.
                let _ = rustix::termios::tcsetpgrp(input, rustix::process::getpid());
            }
            Session::Bare | Session::Terminal => {
                rustix::process::setsid()?;
            }
        }
        if *session == Session::Terminal {
            rustix::process::ioctl_tiocsctty(input)?;
        }
        let limit = Rlimit { current: Some(1024), maximum: Some(DESCRIPTORS_MAX) };
        rustix::process::setrlimit(Resource::Nofile, limit)
    }

    fn set_streams(&self) -> Result<(), Errno> {
        rustix::stdio::dup2_stdin(&self.stdio.input)?;
        rustix::stdio::dup2_stdout(&self.stdio.output)?;
        rustix::stdio::dup2_stderr(&self.stdio.error)
    }

    fn set_identity(&self) -> Result<(), Errno> {
        let User { uid, gid, .. } = *self.user;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let groups: Vec<Gid> = self.user.groups.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }

    /// As execvp(3): goes on where there is no such file, and remembers that
    /// another was not allowed.
    fn execute(&self) -> Errno {
        let mut result = Errno::NOENT;
        for path in &self.paths {
            match rt::exec(path, self.args, &self.env) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => result = Errno::ACCESS,
                errno => return errno,
            }
        }
        result
    }

    fn explain(&self, step: Step, errno: Errno) -> Failure {
        let sys = |what: fmt::Arguments<'_>, hints| {
            Failure::trouble(Error::sys(what, errno, hint_for(hints, errno)))
        };
        match step {
            Step::Session => sys(format_args!("start a session"), NO_HINT),
            Step::Streams => sys(format_args!("set the standard streams"), NO_HINT),
            Step::Identity => sys(format_args!("become user {}", self.user.uid), NO_HINT),
            Step::Directory => {
                let cwd = show(self.cwd.to_bytes());
                sys(format_args!("enter the working directory {cwd}"), CWD_HINTS)
            }
            Step::Execute => self.explain_execute(errno),
        }
    }

    fn explain_execute(&self, errno: Errno) -> Failure {
        let name = show(self.args.first().copied().unwrap_or_default().to_bytes());
        let (status, error) = if errno == Errno::NOENT {
            // execve(2) says the same of a program whose interpreter is missing.
            match self.paths.iter().find_map(|path| needed_interpreter(self.cwd, path)) {
                Some(needed) => {
                    let what = format_args!(
                        "execute {name}: ENOENT: its interpreter {} is missing",
                        show(&needed)
                    );
                    (NOT_EXECUTABLE, Error::new(what, ""))
                }
                None => (NOT_FOUND, Error::new(format_args!("execute {name}: not found"), "")),
            }
        } else {
            let hint = hint_for(EXEC_HINTS, errno);
            (NOT_EXECUTABLE, Error::sys(format_args!("execute {name}"), errno, hint))
        };
        Failure { status, message: error.into_line() }
    }
}

const CWD_HINTS: Hints = &[(Some(Errno::NOENT), "no such directory in the guest")];

/// The interpreter of the program at `path`, seen from `cwd`, where there is such a program.
fn needed_interpreter(cwd: &CStr, path: &CStr) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(cwd, place, Mode::empty()).ok()?;
    let fd = rustix::fs::openat(&dir, path, flags, Mode::empty()).ok()?;
    let mut head = [0; program::HEAD];
    let count = rustix::io::read(&fd, &mut head).ok()?;
    program::interpreter(head.get(..count)?).ok()?.map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_gaps_only() {
        let env = environment(&[c"A=1", c"PATH=/x"], c"HOME=/root");
        assert_eq!(env, [c"A=1", c"PATH=/x", c"HOME=/root"]);
        let env = environment(&[c"HOME=", c"PATHS=1"], c"HOME=/root");
        assert_eq!(env, [c"HOME=", c"PATHS=1", DEFAULT_PATH]);
    }

    #[test]
    fn bare_names_are_searched() {
        for (name, path, expected) in [
            ("ls", "/bin:/usr/bin", &["/bin/ls", "/usr/bin/ls"][..]),
            ("ls", "/bin:", &["/bin/ls", "ls"]),
            ("./ls", "/bin", &["./ls"]),
            ("/bin/ls", "", &["/bin/ls"]),
            ("", "/bin", &[]),
        ] {
            let found = candidates(name.as_bytes(), path.as_bytes());
            let found: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
            assert_eq!(found, expected, "{name} in {path}");
        }
    }

    #[test]
    fn steps_are_numbered_as_they_are_listed() {
        assert!(STEPS.iter().enumerate().all(|(at, step)| usize::from(*step as u8) == at));
    }
}
