//! The process that becomes the step's program.
//!
//! It starts in the image, takes the identity of the user, and executes the program. If that
//! fails, it leaves the reason in a file that it opens before: the user may not open it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    AccessFlags, Gid, Pid, Uid, access, execve, getpid, setgid, setgroups, setpgid, setsid, setuid,
    tcsetpgrp,
};
use proto::text::show;
use virtinitrd_step::request::Request;

use crate::fault::Describe;
use crate::first::{self, Streams};
use crate::user::Ids;

/// Name of this process among the commands of the program.
pub(crate) const COMMAND: &str = "program";

/// Directories of programs if the request has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The usual score for the out-of-memory killer (proc(5)).
const USUAL_SCORE: &str = "0";

/// File mode creation mask of every program.
const UMASK: Mode = Mode::from_bits_truncate(0o022);

/// Exit status if the program was not started; nobody reads it.
const NOT_STARTED: u8 = 125;

/// Errors of execve(2), and what they usually mean.
#[rustfmt::skip]
const EXEC_HINTS: &[(Errno, &str)] = &[
    (Errno::ENOEXEC, "it is for another architecture, or it is a script without a #! line"),
    (Errno::ENOENT,  "its interpreter is missing: the program of its #! line, or the dynamic linker"),
    (Errno::EACCES,  "it is no executable file, or the user may not reach it"),
    (Errno::E2BIG,   "the words of the command and its variables are too long"),
    (Errno::EINVAL,  "its interpreter is for another architecture"),
    (Errno::ENOMEM,  "the machine has too little memory"),
];

/// Becomes the program. The words are those of the streams, the file for a fault, the file with
/// the request, and the numbers of the user.
pub(crate) fn run(words: &[OsString]) -> Result<u8> {
    let [streams, fault, rest @ ..] = words else { bail!("too few words for the program") };
    let opened = OpenOptions::new().write(true).open(fault);
    let mut fault = opened.describe(|| format!("open {}", fault.display()))?;
    let Err(error) = start(streams, rest);
    fault.write_all(format!("{error:#}").as_bytes()).context("report a fault")?;
    Ok(NOT_STARTED)
}

fn start(streams: &OsStr, words: &[OsString]) -> Result<std::convert::Infallible> {
    let [file, numbers @ ..] = words else { bail!("too few words for the program") };
    let ids = Ids::from_words(numbers.iter().filter_map(|word| word.to_str()));
    let ids = ids.context("bad numbers of a user")?;
    let bytes = fs::read(file).describe(|| format!("read {}", file.display()))?;
    let request = Request::parse(&bytes)?;
    first::set_oom_score(USUAL_SCORE)?;
    // The runtime of Rust ignores this signal. With a handler, execve(2) resets it.
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::new(AtomicBool::new(false)))
        .describe(|| "reset SIGPIPE".to_owned())?;
    if streams == Streams::Report.word() {
        // Otherwise `kill 0` in the program would kill the processes that wait for it.
        setsid().describe(|| "start a session".to_owned())?;
    } else if std::io::stdin().is_terminal() {
        take_terminal().describe(|| "take the terminal".to_owned())?;
    }
    let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).describe(|| "set the supplementary groups".to_owned())?;
    setgid(Gid::from_raw(ids.gid)).describe(|| format!("set the group id {}", ids.gid))?;
    setuid(Uid::from_raw(ids.uid)).describe(|| format!("set the user id {}", ids.uid))?;
    umask(UMASK);
    let cwd = Path::new(OsStr::from_bytes(&request.cwd));
    std::env::set_current_dir(cwd)
        .describe(|| format!("enter the working directory {}", cwd.display()))?;
    execute(&request)
}

/// Makes this process the foreground group of its terminal: a shell needs a group that exists in
/// its PID namespace.
fn take_terminal() -> nix::Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    // The kernel stops a process in the background that changes the foreground.
    let stop = SigSet::from(Signal::SIGTTOU);
    stop.thread_block()?;
    tcsetpgrp(std::io::stdin(), getpid())?;
    stop.thread_unblock()
}

fn execute(request: &Request) -> Result<std::convert::Infallible> {
    let name = request.args.first().map(Vec::as_slice).unwrap_or_default();
    let path = find(name, &request.env)?;
    let strings = |texts: &[Vec<u8>]| -> Result<Vec<CString>> {
        texts.iter().map(|text| Ok(CString::new(text.clone())?)).collect()
    };
    let (args, env) = (strings(&request.args)?, strings(&request.env)?);
    let file = CString::new(path.as_os_str().as_bytes())?;
    execve(&file, &args, &env).map_err(|errno| {
        let hint = EXEC_HINTS.iter().find(|(row, _)| *row == errno);
        let hint = hint.map(|(_, hint)| format!("; {hint}")).unwrap_or_default();
        anyhow!("execute {}: {errno}{hint}", path.display())
    })
}

/// Finds a program: a name with a slash is its path, another is looked for in `PATH`.
fn find(name: &[u8], env: &[Vec<u8>]) -> Result<PathBuf> {
    let program = Path::new(OsStr::from_bytes(name));
    if name.contains(&b'/') {
        fs::metadata(program).describe(|| format!("execute {}", program.display()))?;
        return Ok(program.to_owned());
    }
    let path = env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    let path = path.unwrap_or(DEFAULT_PATH);
    let mut found = None;
    for dir in path.split(|&byte| byte == b':') {
        // An empty part is the working directory (environ(7)).
        let dir = if dir.is_empty() { b".".as_slice() } else { dir };
        let candidate = Path::new(OsStr::from_bytes(dir)).join(program);
        if candidate.is_file() {
            match access(&candidate, AccessFlags::X_OK) {
                Ok(()) => return Ok(candidate),
                // As execvp(3) does: remember it, a later directory may have a better one.
                Err(_) => found = found.or(Some(candidate)),
            }
        }
    }
    found.ok_or_else(|| {
        anyhow!("execute {}: ENOENT: no such program in PATH={}", program.display(), show(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_found_in_the_path_of_the_request() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (file, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("a/plain", 0o644)] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
            fs::set_permissions(at(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir_all(at("a/dir")).unwrap();
        let path = format!("PATH={}:{}", at("a").display(), at("b").display());
        let env = [b"X=1".to_vec(), path.into_bytes()];
        for (name, expected) in
            [("tool", Some("b/tool")), ("plain", Some("a/plain")), ("dir", None), ("missing", None)]
        {
            assert_eq!(find(name.as_bytes(), &env).ok(), expected.map(at), "{name}");
        }
        let error = find(b"missing", &env).unwrap_err().to_string();
        assert!(error.contains("no such program in PATH="), "{error}");
        assert!(find(b"/missing/x", &env).unwrap_err().to_string().contains("ENOENT"));
    }
}
