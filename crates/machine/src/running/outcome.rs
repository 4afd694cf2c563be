//! How a run ended, and what chrootvm says and exits with.

use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::time_limit;
use crate::plan::Mode;
use crate::process::child::describe;
use crate::process::qmp::Shutdown;

/// Exit status for trouble of ours, as podman and env(1) have it.
pub const EXIT_TROUBLE: u8 = virtinitrd_proto::status::TROUBLE;

/// Exit status when time ran out, as timeout(1) has it.
pub const EXIT_TIMEOUT: u8 = 124;

/// Added to the number of the signal that ended us, as a shell does.
pub const EXIT_SIGNAL: u8 = 128;

/// How a machine came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// QEMU ended by itself.
    Ended {
        /// Its exit status and last words, where it is not success.
        failure: Option<String>,
        /// What QMP said.
        shutdown: Option<Shutdown>,
    },
    /// A daemon ended while the machine ran: its name, its end, its last words.
    DaemonDied(String, String, String),
    /// We were asked to stop.
    Stopped(Signal),
    /// The person at the terminal wanted out.
    Escaped,
    /// The command ended with this status.
    Command(u8),
    /// The command could not be started: exit status and reason.
    NotStarted(u8, String),
    /// `--timeout`
    TimedOut(Duration),
    /// No word of the guest in all that time.
    Silent(Duration),
    /// The guest has halted: nothing will run in it any more.
    Halted,
    /// The command's output could not be written.
    OutputLost(Errno),
}

/// What is left to be done after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Our exit status.
    pub status: u8,
    /// What went wrong, for a person.
    pub problem: Option<String>,
    /// Whether the console's last lines may tell why.
    pub shows_console: bool,
}

impl Outcome {
    /// As QEMU's status and its last words tell.
    #[must_use]
    pub fn of_qemu(status: ExitStatus, words: &str, shutdown: Option<Shutdown>) -> Self {
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        Self::Ended { failure: (!status.success()).then(|| describe(status) + &words), shutdown }
    }

    /// Whether the guest reset, as it does when its kernel panics.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Ended { failure: None, shutdown: Some(Shutdown::GuestReset) })
    }

    /// What to say, and to exit with; `reason` is what the console gives.
    #[must_use]
    pub fn verdict(self, mode: Mode, reason: Option<&str>) -> Verdict {
        let plain = |status| Verdict { status, problem: None, shows_console: false };
        let trouble = |problem: String| Verdict {
            status: EXIT_TROUBLE,
            problem: Some(problem),
            shows_console: true,
        };
        match self {
            Self::Command(status) => plain(status),
            Self::Stopped(signal) => plain(EXIT_SIGNAL.saturating_add(signal as u8)),
            Self::Escaped => plain(EXIT_SIGNAL.saturating_add(Signal::SIGHUP as u8)),
            Self::NotStarted(status, problem) => {
                Verdict { status, problem: Some(problem), shows_console: false }
            }
            Self::TimedOut(limit) => {
                Verdict { status: EXIT_TIMEOUT, ..trouble(time_limit::problem(limit)) }
            }
            Self::Silent(limit) => trouble(format!(
                "the boot hangs: not a word from the guest within {} s",
                limit.as_secs()
            )),
            Self::Halted => match mode {
                Mode::Console { .. } => plain(0),
                Mode::Command { .. } => {
                    trouble("the machine was halted before the command had ended".into())
                }
            },
            Self::OutputLost(errno) => Verdict {
                shows_console: false,
                ..trouble(format!("write the command's output: {}", errno.desc()))
            },
            Self::DaemonDied(name, end, words) => {
                let words = if words.is_empty() { words } else { format!(": {words}") };
                trouble(format!("{name} ended while the machine ran ({end}){words}"))
            }
            Self::Ended { failure: Some(failure), .. } => {
                trouble(format!("QEMU failed: {failure}"))
            }
            Self::Ended { failure: None, shutdown } => match (shutdown, mode) {
                (Some(Shutdown::GuestPowerOff | Shutdown::Host), Mode::Console { .. }) => plain(0),
                (Some(Shutdown::GuestPowerOff | Shutdown::Host), Mode::Command { .. }) => {
                    trouble("the machine was powered off before the command had ended".into())
                }
                (Some(Shutdown::GuestReset), Mode::Command { .. }) if reason.is_some() => {
                    trouble(format!("the guest gave up: {}", reason.unwrap_or_default()))
                }
                (Some(Shutdown::GuestReset), _) => trouble(
                    "the guest reset instead of powering off: its kernel panicked (as it does \
                     when PID 1 exits), /init gave up, or it was rebooted; the console tells which"
                        .into(),
                ),
                (Some(Shutdown::Other(reason)), _) => {
                    trouble(format!("QEMU ended the machine: {reason}"))
                }
                (None, _) => trouble("QEMU ended without saying why".into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: Mode = Mode::Console { monitor: false };
    const COMMAND: Mode = Mode::Command { terminal: false };

    #[test]
    fn every_end_has_its_status_and_words() {
        let ended = |failure: Option<&str>, shutdown| Outcome::Ended {
            failure: failure.map(String::from),
            shutdown,
        };
        let died = Outcome::DaemonDied("virtiofsd".into(), "signal 9".into(), String::new());
        for (outcome, mode, status, words) in [
            (ended(None, Some(Shutdown::GuestPowerOff)), CONSOLE, 0, ""),
            (ended(None, Some(Shutdown::Host)), CONSOLE, 0, ""),
            (ended(None, Some(Shutdown::GuestPowerOff)), COMMAND, 125, "before the command"),
            (ended(None, Some(Shutdown::GuestReset)), CONSOLE, 125, "guest reset"),
            (ended(None, Some(Shutdown::Other("x-y".into()))), CONSOLE, 125, "x-y"),
            (ended(None, None), COMMAND, 125, "without saying why"),
            (ended(Some("signal 9"), None), COMMAND, 125, "QEMU failed: signal 9"),
            (ended(Some("signal 9"), Some(Shutdown::GuestPowerOff)), CONSOLE, 125, "signal 9"),
            (died, COMMAND, 125, "ran (signal 9)"),
            (Outcome::Stopped(Signal::SIGINT), COMMAND, 130, ""),
            (Outcome::Escaped, COMMAND, 129, ""),
            (Outcome::Command(255), COMMAND, 255, ""),
            (Outcome::NotStarted(127, "x: not found".into()), COMMAND, 127, "not found"),
            (Outcome::TimedOut(Duration::from_secs(3)), COMMAND, 124, "within 3s"),
            (Outcome::Silent(Duration::from_secs(60)), COMMAND, 125, "within 60 s"),
            (Outcome::Halted, COMMAND, 125, "halted before the command"),
            (Outcome::Halted, CONSOLE, 0, ""),
            (Outcome::OutputLost(Errno::ENOSPC), COMMAND, 125, "No space left"),
        ] {
            let shown = format!("{outcome:?}");
            let verdict = outcome.verdict(mode, None);
            assert_eq!(verdict.status, status, "{shown}");
            let problem = verdict.problem.unwrap_or_default();
            assert_eq!(problem.is_empty(), words.is_empty(), "{shown}");
            assert!(problem.contains(words), "{shown}: {problem}");
        }
        let reset = ended(None, Some(Shutdown::GuestReset));
        let problem = reset.verdict(COMMAND, Some("mount x: ENOENT")).problem.unwrap();
        assert_eq!(problem, "the guest gave up: mount x: ENOENT");
    }
}
