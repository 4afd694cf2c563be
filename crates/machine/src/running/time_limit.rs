//! The time limit of a run (`--timeout`), which begins with the start of chrootvm.
//!
//! Until the machine is watched, chrootvm may hang in a system call: in a network file system
//! that does not answer, or in waiting for another program. So a thread enforces the limit
//! until then.
//!
//! Interface: `/proc/PID/task/TID/children`, proc_pid_task(5).

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::script::shell_line;
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

/// Longest name of a command in an error message, in characters.
const NAME_MAX: usize = 60;

/// Time limit of a run.
#[derive(Debug)]
pub struct TimeLimit {
    /// Length and end of the limit; `None` for no limit.
    limit: Option<(Duration, Instant)>,
    /// Name of the thing that has to end in time ([`subject`]).
    subject: String,
    /// Dropped when the machine is watched; that ends the thread.
    guard: Option<Sender<()>>,
}

impl TimeLimit {
    /// Starts the time of `command`, whose words are empty for a machine without a command.
    /// Until [`TimeLimit::watched`] is called, the end of the limit ends this program and its
    /// children; before that, `last` gets the message.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        limit: Option<Duration>,
        command: &[OsString],
        last: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Self> {
        let subject = subject(command);
        // A limit beyond the range of the clock is no limit.
        let limit = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        let Some((duration, _)) = limit else { return Ok(Self { limit, subject, guard: None }) };
        let (guard, watched) = channel::<()>();
        let problem = problem(&subject, duration, RunPhase::Preparing);
        let keep = move || {
            if watched.recv_timeout(duration) == Err(RecvTimeoutError::Timeout) {
                // The main thread may be waiting for one of the children. The wait will fail, and
                // the main thread must not report that.
                PASSED.store(true, Ordering::Release);
                last(&problem);
                log::error!("{problem}");
                kill_children_of(getpid());
                std::process::exit(EXIT_TIMEOUT.into());
            }
        };
        let thread = std::thread::Builder::new().spawn(keep);
        thread.context("--timeout: start a thread")?;
        Ok(Self { limit, subject, guard: Some(guard) })
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

    /// Error text if the limit is over in this `phase` of the run.
    #[must_use]
    pub fn passed(&self, phase: RunPhase) -> Option<String> {
        let (limit, _) = self.limit.filter(|(_, end)| *end <= Instant::now())?;
        Some(problem(&self.subject, limit, phase))
    }
}

/// Phase of a run in which its time limit is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// chrootvm has not started the machine yet.
    Preparing,
    /// The guest has not started the command yet.
    Booting,
    /// The command runs, or the machine has no command.
    Running,
}

/// Error text for the `subject` ([`subject`]) whose `limit` is over in this `phase`.
#[must_use]
pub fn problem(subject: &str, limit: Duration, phase: RunPhase) -> String {
    let reason = match phase {
        RunPhase::Preparing => "; the machine was not started yet",
        RunPhase::Booting => "; the guest was still booting",
        RunPhase::Running => "",
    };
    format!("--timeout: {subject} has not ended within {limit:?}{reason}")
}

/// Name of `command` in an error message: its words, cut if they are long, or the machine
/// if there are no words.
#[must_use]
pub fn subject(command: &[OsString]) -> String {
    if command.is_empty() {
        return "the machine".into();
    }
    let line = shell_line(command).to_string_lossy().replace('\n', " ");
    match line.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
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
        let passed = |limit: &TimeLimit| limit.passed(RunPhase::Running);
        let none = TimeLimit::start(None, &[], |_| ()).unwrap();
        assert_eq!((none.end(), passed(&none)), (None, None));
        assert_eq!(TimeLimit::start(Some(Duration::MAX), &[], |_| ()).unwrap().end(), None);
        let mut long = TimeLimit::start(Some(Duration::from_secs(3600)), &[], |_| ()).unwrap();
        long.watched();
        assert!(long.end().is_some() && passed(&long).is_none());
    }

    #[test]
    fn a_passed_limit_names_the_command_and_the_phase() {
        let long = "x".repeat(NAME_MAX);
        let cut = format!("{}…", &format!("ab {long}")[..NAME_MAX]);
        for (words, phase, expected) in [
            (&["sleep", "9"][..], RunPhase::Running, "sleep 9 has not ended within 1.5s"),
            (
                &["a b"],
                RunPhase::Booting,
                "'a b' has not ended within 1.5s; the guest was still booting",
            ),
            (&["a\nb"], RunPhase::Running, "'a b' has not ended within 1.5s"),
            (
                &[],
                RunPhase::Preparing,
                "the machine has not ended within 1.5s; the machine was not started yet",
            ),
            (&["ab", &long], RunPhase::Running, &format!("{cut} has not ended within 1.5s")),
        ] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            let found = problem(&subject(&words), Duration::from_millis(1500), phase);
            assert_eq!(found, format!("--timeout: {expected}"), "{words:?}");
        }
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
