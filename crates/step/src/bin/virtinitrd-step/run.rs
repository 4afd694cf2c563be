//! `/step run` and `/step shell`: prepares a step, waits for its end, cleans up and reports.
//!
//! This process leaves the machine's namespaces, so its mounts end with it even if it is
//! killed; and the step's first process ends with it, and with that process the whole step.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::statvfs;
use nix::unistd::{sethostname, syncfs, ttyname};
use virtinitrd_step::report::{Outcome, Report};
use virtinitrd_step::request::{self, Network, Request};

use crate::fault::Describe;
use crate::first::{self, Ended, Streams};
use crate::user::Ids;
use crate::{disks, layers, loopback, mounts, paths, tree};

/// Words of `/step shell` without words.
const SHELL: [&[u8]; 2] = [b"sh", b"-l"];

/// Exit status of a shell that a signal has killed: this plus the number of the signal (sh(1)).
const SIGNALLED: u8 = 128;

/// This program, whatever its path is.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Only its owner may use what is made.
const PRIVATE: Mode = Mode::from_bits_truncate(0o077);

/// Permissions of what is made in the image.
const PUBLIC: Mode = Mode::from_bits_truncate(0o022);

/// Runs the request from standard input, and writes the report to standard output.
///
/// # Errors
/// The request is bad, another step is running, or the report cannot be written.
pub(crate) fn run() -> Result<u8> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(request::MAX)? + 1;
    std::io::stdin().take(limit).read_to_end(&mut bytes).context("read the request")?;
    let request = Request::parse(&bytes)?;
    let _lock = enter()?;
    tree::write_private(Path::new(paths::LAST_REQUEST), &bytes)?;
    let killed_before = out_of_memory_kills();
    let ended = run_step(&request, paths::LAST_REQUEST, Streams::Report);
    let Ended { outcome, left } = ended
        .unwrap_or_else(|error| Ended { outcome: Outcome::fault(&format!("{error:#}")), left: 0 });
    let oom = out_of_memory_kills().saturating_sub(killed_before);
    let (free, free_inodes) = free_space();
    let report = Report { outcome, left, oom, free, free_inodes };
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(report.to_text().as_bytes()).and_then(|()| stdout.flush());
    written.context("write the report")?;
    Ok(0)
}

/// Runs a shell, or the command `words`, as the last request says, with the caller's streams.
///
/// # Errors
/// There is no last request, another step is running, or the command cannot be started.
pub(crate) fn shell(words: &[OsString]) -> Result<u8> {
    let _lock = enter()?;
    let bytes = fs::read(paths::LAST_REQUEST)
        .describe(|| format!("read {} of the last step", paths::LAST_REQUEST))?;
    let mut request = Request::parse(&bytes)?;
    request.args = match words {
        [] => SHELL.map(<[u8]>::to_vec).to_vec(),
        words => words.iter().cloned().map(OsString::into_vec).collect(),
    };
    let file = Path::new(paths::SHELL_REQUEST);
    tree::write_private(file, &request.to_bytes()?)?;
    let ended = run_step(&request, paths::SHELL_REQUEST, Streams::Caller);
    fs::remove_file(file).describe(|| format!("remove {}", file.display()))?;
    match ended?.outcome {
        Outcome::Exit(status) => Ok(status),
        Outcome::Signal(number) => Ok(SIGNALLED.saturating_add(number)),
        Outcome::Fault(text) => bail!("{text}"),
    }
}

/// Enters the directory of state, which is locked as long as the result lives.
fn enter() -> Result<Flock<File>> {
    umask(PRIVATE);
    tree::make(Path::new(paths::STATE))?;
    std::env::set_current_dir(paths::STATE).describe(|| format!("enter {}", paths::STATE))?;
    umask(PUBLIC);
    let file = File::create(paths::LOCK).describe(|| format!("make {}", paths::LOCK))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .describe(|| "start a step: another step is running".to_owned())
}

/// Runs a step from its mounts to its clean-up.
fn run_step(request: &Request, file: &str, streams: Streams) -> Result<Ended> {
    disks::mount_all(request)?;
    let scratch = File::open(paths::SCRATCH).describe(|| "open the scratch disk".to_owned())?;
    let terminal = match streams {
        Streams::Caller => ttyname(std::io::stdin()).ok(),
        Streams::Report => None,
    };
    leave_namespaces(request)?;
    let root = Path::new(paths::ROOT);
    let ended =
        layers::mount_image(request, |root| mounts::make_points(request, root)).and_then(|()| {
            let ids = Ids::find(root, request.user.as_deref())?;
            mounts::mount_all(request, root, terminal.as_deref())?;
            start(file, &ids, streams)
        });
    let cleaned = layers::unmount(request);
    let synced = syncfs(scratch.as_fd()).describe(|| "write the scratch disk".to_owned());
    // The first error is the reason of those that follow.
    let ended = ended?;
    cleaned.and(synced)?;
    Ok(ended)
}

/// Gives this process, and the processes that it starts, namespaces of their own.
fn leave_namespaces(request: &Request) -> Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    if request.network == Network::None {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).describe(|| "make the namespaces of the step".to_owned())?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .describe(|| "make the mounts of the step private".to_owned())?;
    let hostname = OsString::from_vec(request.hostname.clone());
    sethostname(&hostname)
        .describe(|| format!("set the host name {}", Path::new(&hostname).display()))?;
    match request.network {
        Network::None => loopback::up(),
        Network::User { .. } => Ok(()),
    }
}

/// Starts the first process of the step, and waits for its end.
fn start(file: &str, ids: &Ids, streams: Streams) -> Result<Ended> {
    for file in [paths::ENDED, paths::FAULT] {
        tree::write_private(Path::new(file), b"")?;
    }
    let mut command = Command::new(SELF);
    command.arg(first::COMMAND).arg(streams.word()).arg(file).args(ids.to_words());
    if streams == Streams::Report {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    let status = command.status().describe(|| "start the first process of the step".to_owned())?;
    let read = |file| fs::read(file).describe(|| format!("read {file}"));
    let fault = read(paths::FAULT)?;
    if !fault.is_empty() {
        return Ok(Ended { outcome: Outcome::fault(&String::from_utf8_lossy(&fault)), left: 0 });
    }
    ensure!(status.success(), "run the first process of the step: it ended early ({status})");
    Ended::parse(&read(paths::ENDED)?).context("run the first process of the step: no result")
}

/// Number of processes that the kernel has killed for lack of memory (`oom_kill` in
/// /proc/vmstat); 0 if the kernel does not count them.
fn out_of_memory_kills() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// Free bytes and inodes of the scratch disk; 0 if it is not mounted.
fn free_space() -> (u64, u64) {
    match statvfs(paths::SCRATCH) {
        Ok(found) => (found.blocks_available() * found.fragment_size(), found.files_available()),
        Err(_) => (0, 0),
    }
}
