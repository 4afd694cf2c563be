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
use crate::tell;

/// Whether this program ends now because its time is over.
static PASSED: AtomicBool = AtomicBool::new(false);

/// Keeps the calling thread from ending this program otherwise once its time is over.
pub fn hold_if_passed() {
    while PASSED.load(Ordering::Acquire) {
        std::thread::park();
    }
}

/// When a run ends, whatever it does.
#[derive(Debug)]
pub struct TimeLimit {
    /// What was asked for, and when it is over.
    limit: Option<(Duration, Instant)>,
    /// Dropped once the machine is watched.
    guard: Option<Sender<()>>,
}

impl TimeLimit {
    /// Starts to count. Until [`TimeLimit::watched`], this program ends at the limit,
    /// and what it has started.
    pub fn start(limit: Option<Duration>) -> Result<Self> {
        // A limit that the clock cannot tell is none.
        let limit = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        let Some((duration, _)) = limit else { return Ok(Self { limit: None, guard: None }) };
        let (guard, watched) = channel::<()>();
        let keep = move || {
            if watched.recv_timeout(duration) == Err(RecvTimeoutError::Timeout) {
                tell::error(problem(duration) + "; the machine was not started yet");
                // Who waits for a child is about to fail, and must not tell its reason.
                PASSED.store(true, Ordering::Release);
                kill_children_of(getpid());
                std::process::exit(EXIT_TIMEOUT.into());
            }
        };
        let thread = std::thread::Builder::new().spawn(keep);
        thread.context("--timeout: start a thread")?;
        Ok(Self { limit, guard: Some(guard) })
    }

    /// From now on the caller looks at the time.
    pub fn watched(&mut self) {
        self.guard = None;
    }

    /// When the run ends.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.limit.map(|(_, end)| end)
    }

    /// What was asked for, once it is over.
    #[must_use]
    pub fn passed(&self) -> Option<Duration> {
        self.limit.filter(|(_, end)| *end <= Instant::now()).map(|(limit, _)| limit)
    }
}

/// What to say at the end of `limit`.
#[must_use]
pub fn problem(limit: Duration) -> String {
    format!("--timeout: it has not ended within {limit:?}")
}

/// Ends what `pid` has started, and what that has started, as far as the kernel
/// tells: whoever is left ends when we do, or was not ours.
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
