//! Why a step has failed, what is said about it, and with which exit status the build ends.

use std::fmt;
use std::time::Duration;

use machine::plan::exit_status::EXIT_TIMEOUT;
use nix::sys::signal::Signal;
use recipe::Network;
use step::report::{Outcome, Report};

use super::super::package::front::Front;
use super::super::package::planned::Planned;
use super::machine::Tail;

/// Exit status if a step has failed.
pub(in crate::image_command::recipe) const EXIT_STEP: u8 = 1;
/// Exit status if the recipe is wrong.
pub(in crate::image_command::recipe) const EXIT_RECIPE: u8 = 2;
/// Exit status if the disk or the memory of the build was too small.
pub(in crate::image_command::recipe) const EXIT_ROOM: u8 = 3;
/// Exit status if the machine of the build has ended before a step did.
pub(in crate::image_command::recipe) const EXIT_MACHINE: u8 = 4;

/// Free bytes below which a disk counts as full: what ext4 and a package manager hold back.
const FULL: u64 = 8 << 20;

/// Free inodes below which a disk counts as full: the guest removes some directories of its own
/// after the step.
const FULL_INODES: u64 = 64;

/// What a step that failed may have lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Wish {
    /// Nothing that shows.
    Nothing,
    /// The network: it had none, and what it wrote says so.
    Network,
}

impl Wish {
    /// Parts of what programs say if there is no network, in lower case.
    const WORDS: [&str; 8] = [
        "unreachable",
        "resolv",
        "bad address",
        "name resolution",
        "no route",
        "can't connect",
        "could not connect",
        "network is down",
    ];

    /// What a step with this network lacked, that has written `lines` last.
    pub(in crate::image_command::recipe) fn of(network: Network, lines: &str) -> Self {
        let lines = lines.to_lowercase();
        match network == Network::None && Self::WORDS.iter().any(|words| lines.contains(words)) {
            true => Self::Network,
            false => Self::Nothing,
        }
    }
}

/// Why a step has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image_command::recipe) enum Why {
    /// The program ended with another status than 0, and may have lacked something.
    Exit(u8, Wish),
    /// A signal killed it.
    Signal(u8),
    /// It could not be started.
    Fault(String),
    /// The disk of the build is full; how the program ended.
    DiskFull(String),
    /// The kernel killed a process because the memory was full; how the program ended.
    OutOfMemory(String),
    /// It took longer than this.
    TimedOut(Duration),
    /// The machine has ended; its last words.
    Lost(Option<String>),
}

impl Why {
    /// The reason of a report whose step did not end with status 0.
    pub(in crate::image_command::recipe) fn of(report: &Report, wish: Wish) -> Self {
        let ended = match &report.outcome {
            Outcome::Exit(status) => format!("exit status {status}"),
            Outcome::Signal(number) => format!("killed by {}", signal_name(*number)),
            Outcome::Fault(text) => text.clone(),
        };
        if report.free < FULL || report.free_inodes < FULL_INODES {
            return Self::DiskFull(ended);
        }
        if report.oom > 0 {
            return Self::OutOfMemory(ended);
        }
        match &report.outcome {
            Outcome::Exit(status) => Self::Exit(*status, wish),
            Outcome::Signal(number) => Self::Signal(*number),
            Outcome::Fault(text) => Self::Fault(text.clone()),
        }
    }

    fn exit_status(&self) -> u8 {
        match self {
            Self::Exit(..) | Self::Signal(_) | Self::Fault(_) => EXIT_STEP,
            Self::DiskFull(_) | Self::OutOfMemory(_) => EXIT_ROOM,
            Self::TimedOut(_) => EXIT_TIMEOUT,
            Self::Lost(_) => EXIT_MACHINE,
        }
    }

    /// The reason for people, with a hint for this kind of file.
    fn describe(&self, front: Front) -> String {
        let hints = front.hints();
        match self {
            Self::Exit(status, Wish::Nothing) => format!("exit status {status}"),
            Self::Exit(status, Wish::Network) => {
                format!("exit status {status}; it had no network ({})", hints.network)
            }
            Self::Signal(number) => format!("killed by {}", signal_name(*number)),
            Self::Fault(text) if text.contains("ENOENT") => {
                format!("{text}; the image has no such program, or lacks what runs it")
            }
            Self::Fault(text) => text.clone(),
            Self::DiskFull(ended) => {
                format!("{ended}: the disk of the build is full ({})", hints.disk)
            }
            Self::OutOfMemory(ended) => format!("{ended}: the memory was full ({})", hints.memory),
            Self::TimedOut(limit) => {
                format!("it has not ended after {} s ({})", limit.as_secs_f64(), hints.timeout)
            }
            Self::Lost(None) => "the machine of the build does not answer any more".to_owned(),
            Self::Lost(Some(words)) if words.is_empty() => {
                "the machine of the build has ended".to_owned()
            }
            Self::Lost(Some(words)) => format!("the machine of the build has ended: {words}"),
        }
    }
}

/// Why a step has failed; `None` if it has not.
pub(super) fn why(report: &Report, wish: Wish) -> Option<Why> {
    match report.outcome {
        Outcome::Exit(0) => {
            if report.left > 0 {
                log::warn!(
                    "{} processes of the step still ran at its end, and were killed",
                    report.left
                );
            }
            None
        }
        _ => Some(Why::of(report, wish)),
    }
}

/// A step that has failed.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Failed {
    number: String,
    title: String,
    place: String,
    front: Front,
    why: Why,
    /// The last lines that it has written, if nobody has seen them yet.
    lines: String,
}

impl Failed {
    /// A step which has written `tail`.
    pub(in crate::image_command::recipe) fn new(step: &Planned, why: Why, tail: &mut Tail) -> Self {
        let was_shown = log::log_enabled!(log::Level::Info);
        let lines = if was_shown { String::new() } else { tail.text() };
        let (number, front) = (step.number.clone(), step.package.front);
        Self { number, title: step.title.clone(), place: step.place.clone(), front, why, lines }
    }

    /// Exit status of the build.
    pub(in crate::image_command::recipe) fn exit_status(&self) -> u8 {
        self.why.exit_status()
    }

    /// Whether the machine still runs.
    pub(in crate::image_command::recipe) fn leaves_machine(&self) -> bool {
        !matches!(self.why, Why::Lost(_) | Why::TimedOut(_))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, title, place, front, why, lines } = self;
        write!(f, "{place}: {number} ({title}) failed: {}", why.describe(*front))?;
        match lines.is_empty() {
            true => Ok(()),
            false => write!(f, "\nits last lines:\n{}", lines.trim_end()),
        }
    }
}

impl std::error::Error for Failed {}

fn signal_name(number: u8) -> String {
    let signal = Signal::try_from(i32::from(number));
    signal.map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_reason() {
        let report =
            |outcome| Report { outcome, left: 0, oom: 0, free: 1 << 30, free_inodes: 1 << 20 };
        let exit = || report(Outcome::Exit(7));
        #[rustfmt::skip]
        let cases = [
            (exit(), EXIT_STEP, "exit status 7; it had no network"),
            (report(Outcome::Signal(9)), EXIT_STEP, "killed by SIGKILL"),
            (report(Outcome::Fault("no such program".into())), EXIT_STEP, "no such program"),
            (Report { free: 100, ..exit() }, EXIT_ROOM, "exit status 7: the disk of the build is full"),
            (Report { free_inodes: 5, ..exit() }, EXIT_ROOM, "the disk of the build is full"),
            (Report { oom: 2, ..report(Outcome::Signal(9)) }, EXIT_ROOM, "killed by SIGKILL: the memory was full"),
        ];
        for (report, status, text) in cases {
            let why = Why::of(&report, Wish::Network);
            assert_eq!(why.exit_status(), status, "{report:?}");
            let shown = why.describe(Front::Recipe);
            assert!(shown.contains(text), "{shown}");
        }
        let statuses = [EXIT_STEP, EXIT_RECIPE, EXIT_ROOM, EXIT_MACHINE, EXIT_TIMEOUT];
        assert_eq!(std::collections::BTreeSet::from(statuses).len(), statuses.len());
    }
}
