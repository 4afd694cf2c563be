//! Starting the command as a child.
//!
//! Interfaces: fork(2), setsid(2), credentials(7), execve(2).

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::CStr;
use core::fmt;

use proto::settings::{Command, MissingCwd};
use proto::status::{NOT_EXECUTABLE, NOT_FOUND, TROUBLE};
use proto::text::show;
use proto::words::text;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{Gid, Uid};

use super::failure::Failure;
use super::stdio::ProcessSession;
use super::user::{self, User};
use crate::rt;
use crate::run::interpreter;
use crate::run::payload::{DEFAULT_PATH, EXEC_HINTS};
use crate::sys::children;
use crate::sys::error::{Error, Hints, NO_HINT, hint_for, sys_error};
use crate::sys::file;

/// Hard limit of open descriptors; the soft limit is the kernel's 1024. systemd gives its
/// services the same limits.
const DESCRIPTORS_MAX: u64 = 524_288;

/// Longest status and message in bytes of a child that could not start the command.
const FAILURE_MAX: usize = 1024;

/// Step of a child, in the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChildStep {
    Session,
    Identity,
    Directory,
    Execute,
}

/// A child that is about to become a command.
struct Child<'a> {
    /// Paths to try to execute, in order.
    paths: Vec<CString>,
    args: &'a [&'a CStr],
    env: Vec<&'a CStr>,
    cwd: &'a CStr,
    missing_cwd: MissingCwd,
    user: &'a User<'a>,
    session: ProcessSession,
}

/// Gives this process, which will be one of the user, its standard streams. A child calls it, as
/// root.
pub type TakeStreams<'a> = &'a dyn Fn(&User<'_>) -> Result<ProcessSession, Errno>;

/// Starts the words `args`, with everything else as `command` says. The child leads a process
/// group of its own. It allocates all memory that a start needs, so that PID 1 can start any
/// number of commands.
pub fn spawn(command: &Command<'_>, args: &[&CStr], take: TakeStreams<'_>) -> Result<Pid, Failure> {
    let failed = |errno| Failure::of_call("start the command", errno);
    let (report, child_report) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let Some(pid) = rt::process::fork().map_err(failed)? else {
        let Failure { status, message } = become_command(command, args, take);
        // These fail only if the parent has ended.
        let _ = file::write_all(&child_report, &[status]);
        let _ = file::write_all(&child_report, message.as_bytes());
        rt::exit(status.into());
    };
    drop(child_report);
    let mut failure = [0; FAILURE_MAX];
    match file::read_stream(&report, &mut failure) {
        Ok([status, message @ ..]) => {
            Err(Failure { status: *status, message: text(message).into() })
        }
        // The pipe was closed by execve(2).
        Ok(_) => Ok(pid),
        Err(errno) => Err(failed(errno)),
    }
}

/// Turns this child of PID 1 into the words `args`, with everything else as `command` says;
/// returns only on failure.
pub fn become_command(command: &Command<'_>, args: &[&CStr], take: TakeStreams<'_>) -> Failure {
    // The score of PID 1 is not for its children.
    let _ = file::write(children::OOM_SCORE, b"0");
    let result = user::look_up(command.user, &mut |user| {
        let home = file::c_string(&[b"HOME=", user.home]);
        let home = home.map_err(|errno| Failure::of_call("name the home directory", errno))?;
        let session = take(user).map_err(|errno| Failure::of_call("set the streams", errno))?;
        let child = Child::new(command, args, user, &home, session);
        let Err((step, errno)) = child.become_command();
        Err(child.explain(step, errno))
    });
    match result {
        Err(failure) => failure,
        // This cannot happen: a program that was executed does not return.
        Ok(()) => rt::exit(TROUBLE.into()),
    }
}

/// The environment of the command: defaults for `PATH` and `HOME`, then `wanted`. If a name
/// occurs twice, the last variable counts. A word without `=` is no variable.
fn environment<'a>(wanted: &[&'a CStr], home: &'a CStr) -> Vec<&'a CStr> {
    let name = |variable: &'a CStr| {
        let bytes = variable.to_bytes();
        bytes.get(..bytes.iter().position(|&byte| byte == b'=')?)
    };
    let mut env: Vec<&CStr> = Vec::new();
    for variable in [DEFAULT_PATH, home].into_iter().chain(wanted.iter().copied()) {
        if let Some(wanted) = name(variable) {
            env.retain(|known| name(known) != Some(wanted));
            env.push(variable);
        }
    }
    env
}

/// The files that `name` may mean, in the order of `path` (execvp(3)).
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

impl<'a> Child<'a> {
    fn new(
        command: &'a Command<'_>,
        args: &'a [&'a CStr],
        user: &'a User<'_>,
        home: &'a CStr,
        session: ProcessSession,
    ) -> Child<'a> {
        let name = args.first().copied().unwrap_or_default();
        let env = environment(&command.env, home);
        let path = env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
        let paths = candidates(name.to_bytes(), path.unwrap_or_default());
        let (cwd, missing_cwd) = (command.cwd.unwrap_or(c"/"), command.missing_cwd);
        Self { paths, args, env, cwd, missing_cwd, user, session }
    }

    /// Turns the child into the command; returns the step that failed.
    fn become_command(&self) -> Result<Infallible, (ChildStep, Errno)> {
        let at = |step| move |errno| (step, errno);
        self.start_session().map_err(at(ChildStep::Session))?;
        // The directory belongs to root.
        self.make_cwd().map_err(at(ChildStep::Directory))?;
        self.set_identity().map_err(at(ChildStep::Identity))?;
        rustix::process::chdir(self.cwd).map_err(at(ChildStep::Directory))?;
        rt::process::unblock_signals();
        Err((ChildStep::Execute, self.execute()))
    }

    fn start_session(&self) -> Result<(), Errno> {
        let terminal = rt::stderr();
        match self.session {
            ProcessSession::Shared => {
                rustix::process::setpgid(None, None)?;
                // This fails if the console is no terminal.
                let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpid());
            }
            ProcessSession::Bare | ProcessSession::Terminal => {
                rustix::process::setsid()?;
            }
        }
        if self.session == ProcessSession::Terminal {
            rustix::process::ioctl_tiocsctty(terminal)?;
        }
        let limit = Rlimit { current: Some(1024), maximum: Some(DESCRIPTORS_MAX) };
        rustix::process::setrlimit(Resource::Nofile, limit)
    }

    /// Makes the working directory and those above it, if the command asks for that.
    fn make_cwd(&self) -> Result<(), Errno> {
        let path = self.cwd.to_bytes();
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        match self.missing_cwd {
            MissingCwd::Refuse => Ok(()),
            MissingCwd::Make => ends.skip(1).chain([path.len()]).try_for_each(|end| {
                file::mkdir(&file::c_string(&[path.get(..end).unwrap_or_default()])?)
            }),
        }
    }

    fn set_identity(&self) -> Result<(), Errno> {
        let User { uid, gid, .. } = *self.user;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let groups: Vec<Gid> = self.user.groups.iter().copied().map(Gid::from_raw).collect();
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }

    /// Tries all paths as execvp(3) does: a missing file is skipped, and EACCES is returned
    /// only if no later path works.
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

    fn explain(&self, step: ChildStep, errno: Errno) -> Failure {
        let sys = |what: fmt::Arguments<'_>, hints| {
            Failure::trouble(sys_error(what, errno, hint_for(hints, errno)))
        };
        match step {
            ChildStep::Session => sys(format_args!("start a session"), NO_HINT),
            ChildStep::Identity => {
                sys(format_args!("become user {}", u64::from(self.user.uid)), NO_HINT)
            }
            ChildStep::Directory => {
                let cwd = show(self.cwd.to_bytes());
                sys(format_args!("enter the working directory {cwd}"), CWD_HINTS)
            }
            ChildStep::Execute => self.explain_execute(errno),
        }
    }

    fn explain_execute(&self, errno: Errno) -> Failure {
        let name = show(self.args.first().copied().unwrap_or_default().to_bytes());
        let (status, error) = if errno == Errno::NOENT {
            // execve(2) returns ENOENT for a missing interpreter, too.
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
            (NOT_EXECUTABLE, sys_error(format_args!("execute {name}"), errno, hint))
        };
        Failure { status, message: error.into_line() }
    }
}

/// Hints for a missing working directory.
const CWD_HINTS: Hints = &[
    (Some(Errno::NOENT), "no such directory in the guest"),
    (Some(Errno::ROFS), "it is missing, and the root is read-only; use --overlay"),
];

/// The interpreter of the program at `path`, which may be relative to `cwd`. `None`: there
/// is no such program, or it needs no interpreter.
fn needed_interpreter(cwd: &CStr, path: &CStr) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let location = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(cwd, location, Mode::empty()).ok()?;
    let fd = rustix::fs::openat(&dir, path, flags, Mode::empty()).ok()?;
    let mut head = [0; interpreter::HEAD];
    let count = rustix::io::read(&fd, &mut head).ok()?;
    interpreter::interpreter(head.get(..count)?).ok()?.map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_gaps_only() {
        for (wanted, expected) in [
            (&[][..], &[DEFAULT_PATH, c"HOME=/root"][..]),
            (&[c"A=1", c"PATH=/x"], &[c"HOME=/root", c"A=1", c"PATH=/x"]),
            (&[c"HOME=", c"PATHS=1"], &[DEFAULT_PATH, c"HOME=", c"PATHS=1"]),
            (&[c"A=1", c"B=", c"A=2=3"], &[DEFAULT_PATH, c"HOME=/root", c"B=", c"A=2=3"]),
            (&[c"HOME", c"A"], &[DEFAULT_PATH, c"HOME=/root"]),
        ] {
            assert_eq!(environment(wanted, c"HOME=/root"), expected, "{wanted:?}");
        }
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
}
