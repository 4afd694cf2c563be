//! `--timeout`, from the first moment of chrootvm on.
//!
//! Until a machine is watched, this program may hang in system calls: in a network
//! file system that does not answer, or waiting for a program that it asks something.
//! So a thread keeps the time until then.
//!
//! Interface: `/proc/PID/task/TID/children`, proc_pid_task(5).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::outcome::EXIT_TIMEOUT;

/// Whether this program ends now because its time is over.
static PASSED: AtomicBool = AtomicBool::new(false);

/// Parks the calling thread for ever if the time is over: the thread that keeps the
/// time ends this program.
pub fn hold_if_passed() {
    while PASSED.load(Ordering::Acquire) {
        std::thread::park();
    }
}

/// Time limit of a run.
#[derive(Debug)]
pub struct TimeLimit {
    /// The limit that was given, and its end.
    limit: Option<(Duration, Instant)>,
    /// Dropped once the machine is watched.
    guard: Option<Sender<()>>,
}

impl TimeLimit {
    /// Starts to count. Until [`TimeLimit::watched`] is called, the limit ends this
    /// program and its children.
    pub fn start(limit: Option<Duration>) -> Result<Self> {
        // A limit beyond the range of the clock is no limit.
        let limit = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        let Some((duration, _)) = limit else { return Ok(Self { limit: None, guard: None }) };
        let (guard, watched) = channel::<()>();
        let keep = move || {
            if watched.recv_timeout(duration) == Err(RecvTimeoutError::Timeout) {
                log::error!("{}; the machine was not started yet", problem(duration));
                // A thread that waits for one of the children is about to fail, and
                // must not report that.
                PASSED.store(true, Ordering::Release);
                kill_children_of(getpid());
                std::process::exit(EXIT_TIMEOUT.into());
            }
        };
        let thread = std::thread::Builder::new().spawn(keep);
        thread.context("--timeout: start a thread")?;
        Ok(Self { limit, guard: Some(guard) })
    }

    /// Leaves it to the caller to check the limit from now on.
    pub fn watched(&mut self) {
        self.guard = None;
    }

    /// When the run ends.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.limit.map(|(_, end)| end)
    }

    /// The limit that was given, if it is over.
    #[must_use]
    pub fn passed(&self) -> Option<Duration> {
        self.limit.filter(|(_, end)| *end <= Instant::now()).map(|(limit, _)| limit)
    }
}

/// Error when `limit` is over.
#[must_use]
pub fn problem(limit: Duration) -> String {
    format!("--timeout: it has not ended within {limit:?}")
}

/// Kills the descendants of `pid` that the kernel lists. Others end with this program,
/// or are not its own.
fn kill_children_of(pid: Pid) {
    for child in children(pid) {
        kill_children_of(child);
        let _ = kill(child, Signal::SIGKILL); // it may have ended
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let pids = |text: String| -> Vec<_> {
        text.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
    };
    texts.flat_map(pids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_a_limit_that_was_given_ends() {
        let none = TimeLimit::start(None).unwrap();
        assert_eq!((none.end(), none.passed()), (None, None));
        assert_eq!(TimeLimit::start(Some(Duration::MAX)).unwrap().end(), None);
        let mut long = TimeLimit::start(Some(Duration::from_secs(3600))).unwrap();
        long.watched();
        assert!(long.end().is_some() && long.passed().is_none());
    }

    #[test]
    fn grandchildren_are_found_and_ended() {
        let mut shell = Command::new("sh").args(["-c", "sleep 3600 & wait"]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(shell.id()).unwrap());
        assert!(children(getpid()).contains(&pid));
        let sleep = loop {
            match children(pid).first() {
                Some(sleep) => break *sleep,
                None => assert!(shell.try_wait().unwrap().is_none()),
            }
        };
        kill_children_of(pid);
        // Without its child the shell ends by itself.
        shell.wait().unwrap();
        assert!(kill(sleep, None).is_err() || children(sleep).is_empty());
    }
}
