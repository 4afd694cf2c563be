//! The time limit of a run (`--timeout`), which begins with the start of chrootvm.
//!
//! Until the machine is watched, chrootvm may hang in a system call: in a network file system
//! that does not answer, or in waiting for another program. So a thread enforces the limit
//! until then.
//!
//! Interface: `/proc/PID/task/TID/children`, proc_pid_task(5).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use crate::plan::exit_status::EXIT_TIMEOUT;

/// Whether this program is about to end because its time is over.
static PASSED: AtomicBool = AtomicBool::new(false);

/// Parks the calling thread for ever if the time is over. The thread that enforces the limit
/// then ends this program.
pub fn hold_if_passed() {
    while PASSED.load(Ordering::Acquire) {
        std::thread::park();
    }
}

/// Time limit of a run.
#[derive(Debug)]
pub struct TimeLimit {
    /// Length and end of the limit; `None` for no limit.
    limit: Option<(Duration, Instant)>,
    /// Dropped when the machine is watched; that ends the thread.
    guard: Option<Sender<()>>,
}

impl TimeLimit {
    /// Starts the time. Until [`TimeLimit::watched`] is called, the end of the limit ends this
    /// program and its children.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(limit: Option<Duration>) -> Result<Self> {
        // A limit beyond the range of the clock is no limit.
        let limit = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        let Some((duration, _)) = limit else { return Ok(Self { limit: None, guard: None }) };
        let (guard, watched) = channel::<()>();
        let keep = move || {
            if watched.recv_timeout(duration) == Err(RecvTimeoutError::Timeout) {
                log::error!("{}; the machine was not started yet", problem(duration));
                // The main thread may be waiting for one of the children. The wait will fail, and
                // the main thread must not report that.
                PASSED.store(true, Ordering::Release);
                kill_children_of(getpid());
                std::process::exit(EXIT_TIMEOUT.into());
            }
        };
        let thread = std::thread::Builder::new().spawn(keep);
        thread.context("--timeout: start a thread")?;
        Ok(Self { limit, guard: Some(guard) })
    }

    /// Ends the thread; from now on the caller checks the limit.
    pub fn watched(&mut self) {
        self.guard = None;
    }

    /// End of the limit.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.limit.map(|(_, end)| end)
    }

    /// Length of the limit if it is over.
    #[must_use]
    pub fn passed(&self) -> Option<Duration> {
        self.limit.filter(|(_, end)| *end <= Instant::now()).map(|(limit, _)| limit)
    }
}

/// Error text for a `limit` that is over.
#[must_use]
pub fn problem(limit: Duration) -> String {
    format!("--timeout: it has not ended within {limit:?}")
}

/// Kills the descendants of `pid` that the kernel lists. Other descendants end together with
/// this program.
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
    fn without_a_limit_there_is_no_end() {
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
        // The shell ends because its child has ended.
        shell.wait().unwrap();
        assert!(kill(sleep, None).is_err() || children(sleep).is_empty());
    }
}
