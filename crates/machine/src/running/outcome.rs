//! The end of a run, and the message and exit status that follow from it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use proto::words::name_in;

use crate::plan::exit_status::{EXIT_SIGNAL, EXIT_TIMEOUT, EXIT_TROUBLE};
use crate::plan::machine_plan::RunMode;
use crate::process::child::describe;
use crate::process::qmp::ShutdownCause;
use crate::session::console::LastWords;
use crate::session::panic_page::Pid1End;
use crate::session::shortage::{self, Shortage};

/// Result of a run.
#[derive(Debug)]
pub struct RunReport {
    /// End of the machine.
    pub outcome: Outcome,
    /// Tail of the console, if it was not on the terminal.
    pub console: LastWords,
    /// Lack of memory that the guest has reported.
    pub shortage: Shortage,
    /// The first signal that asked chrootvm to end, even if the command ended by itself then.
    pub signal: Option<Signal>,
    /// Whether the machine was ready for whoever waited for it; true if nobody did.
    pub was_ready: bool,
}

/// End of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// QEMU ended without being asked.
    Ended {
        /// Exit status and messages of QEMU; `None` if it succeeded.
        failure: Option<String>,
        /// Cause of the shutdown, if QMP told it.
        shutdown: Option<ShutdownCause>,
    },
    /// A daemon ended while the machine ran: its name, exit status and messages.
    DaemonDied(String, String, String),
    /// A signal asked chrootvm to end.
    Stopped(Signal),
    /// The user typed the escape sequence.
    Escaped,
    /// The command ended with this status.
    Command(u8),
    /// The command could not be started: exit status and reason.
    NotStarted(u8, String),
    /// The machine was not ready before its end, for this reason.
    NotReady(&'static str),
    /// The time limit (`--timeout`) was reached; the text says what has not ended.
    TimedOut(String),
    /// The guest has not reported its command within this time.
    Silent(Duration),
    /// The guest has halted, so nothing runs in it any more.
    Halted,
    /// PID 1 has ended, and its kernel has reset the machine.
    Pid1Ended(Pid1End),
    /// The output of the command or of the console could not be written.
    OutputLost(Errno),
}

/// Beginnings of the kernel's reasons for a panic because memory ran out (`mm/oom_kill.c`).
const MEMORY_PANICS: &[&str] = &["Out of memory", "System is deadlocked on memory"];

/// QEMU's cause of a shutdown by a signal (`SHUTDOWN_CAUSE_HOST_SIGNAL`, qapi/run-state.json).
const HOST_SIGNAL: &str = "host-signal";

/// QEMU's message about a disk image that another program uses (`raw_apply_lock_bytes()` of
/// block/file-posix.c).
const LOCKED: &str = "\" lock";

/// Hint for that message, which names the image by a descriptor.
const IN_USE: &str = "; the image is in use, perhaps by another machine (`chrootvm ps`), and one \
                      of them writes to it: end that one, or copy the image";

/// Hint for SIGKILL, by which the kernel of the host ends a program if memory runs out.
const KILLED: &str = "; if nobody sent it, memory has run out, that of the host or of a control \
                      group (memory.max): QEMU needs more than --memory";

/// Hint for the `words` of QEMU about an error; empty if there is none.
pub(super) fn hint(words: &str) -> &'static str {
    if words.contains(LOCKED) { IN_USE } else { "" }
}

/// Facts about a run that its exit report depends on.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts<'a> {
    /// Use of the machine.
    pub mode: RunMode,
    /// Memory of the guest in MiB.
    pub memory: u64,
    /// Name of PID 1 of a machine with INIT.
    pub init: &'a str,
    /// Reason that was found on the console.
    pub reason: Option<&'a str>,
    /// [`Architecture::powers_off_silently`](crate::plan::architecture::Architecture).
    pub powers_off_silently: bool,
}

/// Kind of an outcome, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The command or the workload has ended; the exit status is its own.
    Exited,
    /// The command could not be started.
    NotStarted,
    /// A machine without a command has ended by itself.
    PoweredOff,
    /// The time limit was reached.
    TimeLimit,
    /// A signal, or the user at the terminal, has ended chrootvm.
    Interrupted,
    /// chrootvm or the machine has failed.
    Failed,
}

/// Endings by their words.
pub const ENDINGS: [(&str, Ending); 6] = [
    ("exited", Ending::Exited),
    ("not-started", Ending::NotStarted),
    ("powered-off", Ending::PoweredOff),
    ("time-limit", Ending::TimeLimit),
    ("interrupted", Ending::Interrupted),
    ("failed", Ending::Failed),
];

impl Ending {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        name_in(&ENDINGS, &self)
    }
}

/// Exit status and message of chrootvm after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// Exit status of chrootvm.
    pub status: u8,
    /// Kind of the outcome.
    pub ending: Ending,
    /// Error message, or a note if the status is 0; `None` if there is nothing to say.
    pub problem: Option<String>,
    /// Whether the last lines of the console may explain the error.
    pub shows_console: bool,
}

impl Outcome {
    /// Outcome if QEMU ended with `status`; `words` are its messages.
    #[must_use]
    pub fn of_qemu(status: ExitStatus, words: &str, shutdown: Option<ShutdownCause>) -> Self {
        let is_killed = status.signal() == Some(Signal::SIGKILL as i32);
        let hint = if is_killed { KILLED } else { hint(words) };
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let failure = (!status.success()).then(|| describe(status) + &words + hint);
        Self::Ended { failure, shutdown }
    }

    /// Whether the machine was lost, for no reason that its user or its host has given.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Halted | Self::Ended { .. })
    }

    /// This outcome, or the end of PID 1 if that has made the guest reset the machine.
    #[must_use]
    pub fn because_of(self, pid_1: Option<Pid1End>) -> Self {
        match (self, pid_1) {
            (
                Self::Ended { failure: None, shutdown: Some(ShutdownCause::GuestReset) },
                Some(end),
            ) => Self::Pid1Ended(end),
            (outcome, _) => outcome,
        }
    }

    /// This outcome, or the `signal` that asked chrootvm to end, if QEMU or a daemon got it too and
    /// was faster. Slurm and others send a signal to all processes of a task.
    #[must_use]
    pub fn after(self, signal: Option<Signal>) -> Self {
        let is_shared = match &self {
            Self::DaemonDied(..) => true,
            Self::Ended { failure: None, shutdown: Some(ShutdownCause::Other(reason)) } => {
                reason == HOST_SIGNAL
            }
            _ => false,
        };
        signal.filter(|_| is_shared).map_or(self, Self::Stopped)
    }

    /// Exit status and message for this outcome.
    #[must_use]
    pub fn exit_report(self, facts: &RunFacts<'_>) -> ExitReport {
        let RunFacts { mode, init, .. } = *facts;
        let silent = facts.powers_off_silently.then_some(ShutdownCause::GuestPowerOff);
        let plain =
            |ending, status| ExitReport { status, ending, problem: None, shows_console: false };
        let interrupted =
            |signal| plain(Ending::Interrupted, EXIT_SIGNAL.saturating_add(signal as u8));
        let trouble = |problem: String| ExitReport {
            status: EXIT_TROUBLE,
            ending: Ending::Failed,
            problem: Some(problem),
            shows_console: true,
        };
        match self {
            Self::Command(status) => plain(Ending::Exited, status),
            Self::Stopped(signal) => interrupted(signal),
            Self::Escaped => interrupted(Signal::SIGHUP),
            Self::NotStarted(status, problem) => {
                ExitReport { problem: Some(problem), ..plain(Ending::NotStarted, status) }
            }
            Self::NotReady(why) => ExitReport { shows_console: false, ..trouble(why.into()) },
            Self::TimedOut(problem) => {
                ExitReport { status: EXIT_TIMEOUT, ending: Ending::TimeLimit, ..trouble(problem) }
            }
            Self::Silent(limit) => trouble(format!(
                "the boot hangs: not a word from the guest within {} s",
                limit.as_secs()
            )),
            Self::Halted => match mode {
                RunMode::Console { .. } => plain(Ending::PoweredOff, 0),
                RunMode::Command { .. } => {
                    trouble("the machine was halted before the command had ended".into())
                }
            },
            Self::OutputLost(errno) => {
                let output = match mode {
                    RunMode::Console { .. } => "the console's text",
                    RunMode::Command { .. } => "the command's output",
                };
                let problem = format!("write {output}: {}", errno.desc());
                ExitReport { shows_console: false, ..trouble(problem) }
            }
            Self::Pid1Ended(end) => {
                let words = match end {
                    Pid1End::Exited(status) => format!("status {status}"),
                    Pid1End::Killed(signal) => format!("signal {signal}"),
                };
                let failed =
                    trouble(format!("{init} has ended with {words}, and with it the machine"));
                match end {
                    Pid1End::Exited(0) => {
                        ExitReport { status: 0, ending: Ending::PoweredOff, ..failed }
                    }
                    Pid1End::Exited(_) | Pid1End::Killed(_) => failed,
                }
            }
            Self::DaemonDied(name, end, words) => {
                let words = if words.is_empty() { words } else { format!(": {words}") };
                trouble(format!("{name} ended while the machine ran ({end}){words}"))
            }
            Self::Ended { failure: Some(failure), .. } => {
                trouble(format!("QEMU failed: {failure}"))
            }
            Self::Ended { failure: None, shutdown } => match shutdown.or(silent) {
                Some(ShutdownCause::GuestPowerOff | ShutdownCause::Host) => match mode {
                    RunMode::Console { .. } => plain(Ending::PoweredOff, 0),
                    RunMode::Command { .. } => {
                        trouble("the machine was powered off before the command had ended".into())
                    }
                },
                Some(ShutdownCause::GuestReset) => trouble(reset(facts)),
                Some(ShutdownCause::Other(cause)) => {
                    trouble(format!("QEMU ended the machine: {cause}"))
                }
                None => trouble("QEMU ended without saying why".into()),
            },
        }
    }
}

/// Error text for a guest that has reset.
fn reset(facts: &RunFacts<'_>) -> String {
    let (Some(reason), RunMode::Command { .. }) = (facts.reason, facts.mode) else {
        return "the guest reset instead of powering off: its kernel panicked, /init gave up, or it \
                was rebooted; the console tells which"
            .into();
    };
    let lacks_memory = MEMORY_PANICS.iter().any(|start| reason.starts_with(start));
    let advice = lacks_memory.then(|| format!("; {}", shortage::more(Some(facts.memory))));
    format!("the guest gave up: {reason}{}", advice.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: RunMode = RunMode::Console { monitor: false };
    const COMMAND: RunMode = RunMode::Command { terminal: false };

    fn facts(mode: RunMode, reason: Option<&str>) -> RunFacts<'_> {
        let powers_off_silently = false;
        RunFacts { mode, memory: 1024, init: "ls (PID 1)", reason, powers_off_silently }
    }

    #[test]
    fn each_outcome_has_its_exit_status_and_message() {
        let ended = |failure: Option<&str>, shutdown| Outcome::Ended {
            failure: failure.map(String::from),
            shutdown,
        };
        let died = Outcome::DaemonDied("virtiofsd".into(), "signal 9".into(), String::new());
        for (outcome, mode, status, words) in [
            (ended(None, Some(ShutdownCause::GuestPowerOff)), CONSOLE, 0, ""),
            (ended(None, Some(ShutdownCause::Host)), CONSOLE, 0, ""),
            (ended(None, Some(ShutdownCause::GuestPowerOff)), COMMAND, 125, "before the command"),
            (ended(None, Some(ShutdownCause::GuestReset)), CONSOLE, 125, "guest reset"),
            (ended(None, Some(ShutdownCause::Other("x-y".into()))), CONSOLE, 125, "x-y"),
            (ended(None, None), COMMAND, 125, "without saying why"),
            (ended(Some("signal 9"), None), COMMAND, 125, "QEMU failed: signal 9"),
            (ended(Some("signal 9"), Some(ShutdownCause::GuestPowerOff)), CONSOLE, 125, "signal 9"),
            (died, COMMAND, 125, "ran (signal 9)"),
            (Outcome::Stopped(Signal::SIGINT), COMMAND, 130, ""),
            (Outcome::Escaped, COMMAND, 129, ""),
            (Outcome::Command(255), COMMAND, 255, ""),
            (Outcome::NotStarted(127, "x: not found".into()), COMMAND, 127, "not found"),
            (Outcome::NotReady("x is unhealthy"), COMMAND, 125, "x is unhealthy"),
            (Outcome::TimedOut("x has not ended".into()), COMMAND, 124, "x has not ended"),
            (Outcome::Silent(Duration::from_secs(60)), COMMAND, 125, "within 60 s"),
            (Outcome::Halted, COMMAND, 125, "halted before the command"),
            (Outcome::Halted, CONSOLE, 0, ""),
            (
                Outcome::OutputLost(Errno::ENOSPC),
                COMMAND,
                125,
                "the command's output: No space left",
            ),
            (Outcome::OutputLost(Errno::ENOSPC), CONSOLE, 125, "the console's text: No space left"),
            (
                Outcome::Pid1Ended(Pid1End::Exited(0)),
                CONSOLE,
                0,
                "ls (PID 1) has ended with status 0,",
            ),
            (Outcome::Pid1Ended(Pid1End::Exited(7)), CONSOLE, 125, "has ended with status 7,"),
            (Outcome::Pid1Ended(Pid1End::Killed(11)), CONSOLE, 125, "has ended with signal 11,"),
        ] {
            let shown = format!("{outcome:?}");
            let report = outcome.exit_report(&facts(mode, None));
            assert_eq!(report.status, status, "{shown}");
            let endings: &[Ending] = match (status, mode) {
                (0, CONSOLE) => &[Ending::PoweredOff],
                (EXIT_TROUBLE, _) => &[Ending::Failed],
                (EXIT_TIMEOUT, _) => &[Ending::TimeLimit],
                (127, _) => &[Ending::NotStarted],
                (129 | 130, _) => &[Ending::Interrupted],
                _ => &[Ending::Exited],
            };
            assert!(endings.contains(&report.ending), "{shown}: {:?}", report.ending);
            let problem = report.problem.unwrap_or_default();
            assert_eq!(problem.is_empty(), words.is_empty(), "{shown}");
            assert!(problem.contains(words), "{shown}: {problem}");
        }
        for (raw, words, hint) in [
            (1 << 8, "Failed to get \"write\" lock", "lock; the image is in use"),
            (9, "", "signal 9; if nobody sent it, memory has run out"),
        ] {
            let outcome = Outcome::of_qemu(ExitStatus::from_raw(raw), words, None);
            let problem = outcome.exit_report(&facts(COMMAND, None)).problem.unwrap();
            assert!(problem.contains(hint), "{problem}");
        }
        let reset = ended(None, Some(ShutdownCause::GuestReset));
        for (reason, expected) in [
            ("mount x: ENOENT", "mount x: ENOENT"),
            (
                "System is deadlocked on memory",
                "System is deadlocked on memory; give it more memory: --memory 2G (now 1G)",
            ),
        ] {
            let report = reset.clone().exit_report(&facts(COMMAND, Some(reason)));
            assert_eq!(report.problem.unwrap(), format!("the guest gave up: {expected}"));
        }
        let signalled = ended(None, Some(ShutdownCause::Other(HOST_SIGNAL.into())));
        let died = Outcome::DaemonDied("virtiofsd".into(), "exit status 0".into(), String::new());
        for outcome in [signalled, died] {
            assert_eq!(outcome.clone().after(None), outcome);
            assert_eq!(outcome.after(Some(Signal::SIGTERM)), Outcome::Stopped(Signal::SIGTERM));
        }
        assert_eq!(reset.clone().after(Some(Signal::SIGTERM)), reset);
        let end = Pid1End::Exited(1);
        assert_eq!(reset.clone().because_of(None), reset);
        assert_eq!(reset.because_of(Some(end)), Outcome::Pid1Ended(end));
        assert_eq!(Outcome::Halted.because_of(Some(end)), Outcome::Halted);
        let silent = RunFacts { powers_off_silently: true, ..facts(CONSOLE, None) };
        for (failure, status) in [(None, 0), (Some("signal 9"), 125)] {
            assert_eq!(ended(failure, None).exit_report(&silent).status, status);
        }
    }
}
