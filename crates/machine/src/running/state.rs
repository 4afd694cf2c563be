//! The state of a running machine, for people and for other chrootvm processes.
//!
//! Between two chrootvm processes it is a line of words: what the machine does, and then
//! `KEY=VALUE` in any order. A reader ignores keys that it does not know.
//!
//! | Word | Meaning |
//! |---|---|
//! | `booting`, `before`, `running`, `restarting`, `stopping` | what the machine does ([`Activity`]) |
//! | `health=starting\|healthy\|unhealthy` | what the checks of its workload say |
//! | `restarts=NUMBER` | starts of its workload after the first one |
//! | `status=NUMBER` | exit status of the last run of its workload |
//! | `uptime=SECONDS` | time since the start of the present run |

use std::fmt;
use std::time::{Duration, Instant};

use proto::words::{name_in, named};
use proto::workload::{Health, Phase};

use super::watched_init::WatchedInit;
use crate::session::foreground::Foreground;
use crate::session::workload::ReportedWorkload;

/// State of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineState {
    /// What it does.
    pub activity: Activity,
    /// What the checks of its workload say; `None` without a check, or while it does not run.
    pub health: Option<Health>,
    /// Starts of its workload after the first one; `None` without a workload.
    pub restarts: Option<u32>,
    /// Exit status of the last run of its workload, as a shell has it; `None` without a workload.
    pub status: Option<u8>,
    /// Start of the present run, by the clock of this process; `None` while nothing runs.
    pub since: Option<Instant>,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Its command, INIT or workload has not started.
    Booting,
    /// The commands before its workload run.
    Before,
    /// Its command, INIT or workload runs.
    Running,
    /// Its workload has ended, and starts again after a pause.
    Restarting,
    /// Its command, INIT or workload was asked to end.
    Stopping,
}

/// Activities by their words.
const ACTIVITIES: [(&str, Activity); 5] = [
    ("booting", Activity::Booting),
    ("before", Activity::Before),
    ("running", Activity::Running),
    ("restarting", Activity::Restarting),
    ("stopping", Activity::Stopping),
];

/// States of health by their words.
const HEALTHS: [(&str, Health); 3] = [
    ("starting", Health::Starting),
    ("healthy", Health::Healthy),
    ("unhealthy", Health::Unhealthy),
];

impl Activity {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        name_in(&ACTIVITIES, &self)
    }
}

/// The word for what the checks of a workload say.
#[must_use]
pub fn health_word(health: Health) -> &'static str {
    name_in(&HEALTHS, &health)
}

impl MachineState {
    /// A machine that has reported nothing yet.
    pub const BOOTING: Self = Self {
        activity: Activity::Booting,
        health: None,
        restarts: None,
        status: None,
        since: None,
    };

    /// State of a machine with a command or a workload, or with INIT.
    #[must_use]
    pub fn of(command: Option<&Foreground>, init: Option<&WatchedInit>) -> Self {
        match (command, init) {
            (Some(foreground), _) => Self::of_command(foreground),
            (None, Some(init)) => Self::of_init(init),
            (None, None) => Self::BOOTING,
        }
    }

    fn of_command(foreground: &Foreground) -> Self {
        let session = &foreground.session;
        let state = match session.workload() {
            Some(workload) => Self::of_workload(workload),
            None => match session.since() {
                None => Self::BOOTING,
                since => Self { activity: Activity::Running, since, ..Self::BOOTING },
            },
        };
        match foreground.is_ending() {
            true => Self { activity: Activity::Stopping, ..state },
            false => state,
        }
    }

    fn of_init(init: &WatchedInit) -> Self {
        let activity = match (init.is_ending(), init.since()) {
            (true, _) => Activity::Stopping,
            (false, Some(_)) => Activity::Running,
            (false, None) => Activity::Booting,
        };
        Self { activity, since: init.since(), ..Self::BOOTING }
    }

    fn of_workload(workload: &ReportedWorkload) -> Self {
        let state = workload.state();
        let activity = match state.phase {
            Phase::Before => Activity::Before,
            Phase::Running => Activity::Running,
            Phase::Pausing => Activity::Restarting,
            Phase::Stopping => Activity::Stopping,
        };
        Self {
            activity,
            health: state.health,
            restarts: Some(state.restarts),
            status: Some(state.status),
            since: workload.since(),
        }
    }

    /// Whether the machine has a workload.
    #[must_use]
    pub fn has_workload(&self) -> bool {
        self.restarts.is_some()
    }

    /// Time since the start of the present run; `None` while nothing runs.
    #[must_use]
    pub fn uptime(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.saturating_duration_since(since))
    }

    /// The line of words.
    #[must_use]
    pub fn to_line(&self, now: Instant) -> String {
        let word = |key, value: Option<String>| value.map(|value| format!(" {key}={value}"));
        let words = [
            word("health", self.health.map(|health| health_word(health).into())),
            word("restarts", self.restarts.map(|restarts| restarts.to_string())),
            word("status", self.status.map(|status| status.to_string())),
            word("uptime", self.uptime(now).map(|uptime| uptime.as_secs().to_string())),
        ];
        [self.activity.word().to_owned()].into_iter().chain(words.into_iter().flatten()).collect()
    }

    /// Reads a line of words. `None`: the first word is not known. A value that cannot be read
    /// counts as missing.
    #[must_use]
    pub fn parse(line: &str, now: Instant) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let activity = named(&ACTIVITIES, words.next()?.as_bytes())?;
        let mut state = Self { activity, ..Self::BOOTING };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "health" => state.health = named(&HEALTHS, value.as_bytes()),
                "restarts" => state.restarts = value.parse().ok(),
                "status" => state.status = value.parse().ok(),
                "uptime" => {
                    let uptime = value.parse().ok().map(Duration::from_secs);
                    state.since = uptime.and_then(|uptime| now.checked_sub(uptime));
                }
                _ => {}
            }
        }
        Some(state)
    }
}

/// The state without times and numbers: `running (healthy)`, `restarting (1)`.
impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.activity.word())?;
        match (self.activity, self.health, self.status) {
            (Activity::Running, Some(health), _) => write!(f, " ({})", health_word(health)),
            (Activity::Restarting, _, Some(status)) => write!(f, " ({status})"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::workload::WorkloadState;

    use super::*;

    /// The state of a workload, as a guest reports it.
    fn workload(phase: Phase, health: Option<Health>, now: Instant) -> MachineState {
        let state = WorkloadState { phase, health, restarts: 2, status: 7, ..Default::default() };
        MachineState::of_workload(&ReportedWorkload::after(None, state, now))
    }

    #[test]
    fn a_state_has_a_text_and_a_line() {
        let now = Instant::now();
        let later = now + Duration::from_secs(90);
        let running = MachineState { activity: Activity::Running, ..MachineState::BOOTING };
        for (state, text, line) in [
            (MachineState::BOOTING, "booting", "booting"),
            (running, "running", "running"),
            (MachineState { since: Some(now), ..running }, "running", "running uptime=90"),
            (
                workload(Phase::Running, Some(Health::Healthy), now),
                "running (healthy)",
                "running health=healthy restarts=2 status=7 uptime=90",
            ),
            (
                workload(Phase::Running, Some(Health::Starting), now),
                "running (starting)",
                "running health=starting restarts=2 status=7 uptime=90",
            ),
            (
                workload(Phase::Running, Some(Health::Unhealthy), now),
                "running (unhealthy)",
                "running health=unhealthy restarts=2 status=7 uptime=90",
            ),
            (workload(Phase::Before, None, now), "before", "before restarts=2 status=7"),
            (
                workload(Phase::Pausing, None, now),
                "restarting (7)",
                "restarting restarts=2 status=7",
            ),
            (workload(Phase::Stopping, None, now), "stopping", "stopping restarts=2 status=7"),
        ] {
            assert_eq!(state.to_string(), text);
            assert_eq!(state.to_line(later), line);
            assert_eq!(MachineState::parse(line, later), Some(state), "{line}");
        }
    }

    #[test]
    fn a_line_of_another_version_is_read_as_far_as_it_is_known() {
        let now = Instant::now();
        let running = MachineState { activity: Activity::Running, ..MachineState::BOOTING };
        for (line, expected) in [
            ("", None),
            ("dreaming restarts=1", None),
            ("running", Some(running)),
            ("running mood=good x restarts=1", Some(MachineState { restarts: Some(1), ..running })),
            ("running restarts=-1 status=256 health=fine uptime=x", Some(running)),
            ("running uptime=18446744073709551615", Some(running)),
        ] {
            assert_eq!(MachineState::parse(line, now), expected, "{line}");
        }
    }
}
