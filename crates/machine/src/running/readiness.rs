//! The readiness of a machine, for whoever waits for it: a service manager, or the chrootvm that
//! has started the machine in the background.

use nix::sys::signal::Signal;
use proto::workload::Health;

use super::detached::{Starter, StarterNews, leave_standard_error};
use super::outcome::Outcome;
use super::state::{Activity, MachineState};
use crate::process::notify::Notifier;
use crate::process::wait::Awaited;

/// What makes a machine ready (`--wait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its command, INIT or workload runs.
    Started,
    /// A health check of its workload has passed.
    Healthy,
}

/// How near a machine is to a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// The condition may be met later.
    #[default]
    Pending,
    /// The condition is met.
    Met,
    /// The condition cannot be met, for this reason.
    Never(&'static str),
}

impl Condition {
    /// Whether a machine in this `state` meets the condition.
    #[must_use]
    pub fn progress(self, state: &MachineState) -> Progress {
        match state.activity {
            Activity::Booting | Activity::Before | Activity::Stopping => return Progress::Pending,
            Activity::Running | Activity::Restarting => {}
        }
        match (self, state.health) {
            (Self::Started, _) | (Self::Healthy, Some(Health::Healthy)) => Progress::Met,
            (Self::Healthy, _) if !state.has_workload() => Progress::Never(
                "--wait healthy: the machine runs no workload, which has a health check",
            ),
            (Self::Healthy, Some(Health::Starting)) => Progress::Pending,
            (Self::Healthy, Some(Health::Unhealthy)) => {
                Progress::Never("--wait healthy: the workload is unhealthy")
            }
            (Self::Healthy, None) if state.activity == Activity::Restarting => Progress::Pending,
            (Self::Healthy, None) => {
                Progress::Never("--wait healthy: the workload has no health check")
            }
        }
    }

    /// Why a machine that has ended without an error is no success.
    fn unmet(self) -> &'static str {
        match self {
            Self::Started => "the machine ended before its workload had started",
            Self::Healthy => "the machine ended before its workload was healthy",
        }
    }
}

/// The wait for a condition, and those who are told about it.
#[derive(Debug, Default)]
pub struct Readiness {
    /// `None`: nobody waits.
    condition: Option<Condition>,
    progress: Progress,
    notifier: Option<Notifier>,
    starter: Option<Starter>,
    /// Last state that the service manager was told.
    status: String,
    /// Whether the service manager was told that the machine stops.
    is_stopping: bool,
}

impl Readiness {
    /// The wait for `condition`. Without it, a service manager and a starter wait until the machine
    /// has started.
    #[must_use]
    pub fn new(
        condition: Option<Condition>,
        notifier: Option<Notifier>,
        starter: Option<Starter>,
    ) -> Self {
        let is_awaited = notifier.is_some() || starter.is_some();
        let condition = condition.or(is_awaited.then_some(Condition::Started));
        Self { condition, notifier, starter, ..Self::default() }
    }

    /// Tells a service manager that the machine boots. To be called once, before the first
    /// [`Readiness::update`], which may find that the command already runs.
    ///
    /// # Errors
    /// prctl(2) failed.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.tell_manager(&MachineState::BOOTING, false);
        self.starter.as_ref().map_or(Ok(()), Starter::watch)
    }

    /// Descriptor to wait for before the next [`Readiness::update`].
    #[must_use]
    pub fn awaited(&self) -> Option<Awaited<'_>> {
        self.starter.as_ref().map(Starter::awaited)
    }

    /// Tells whoever waits about the `state` of the machine. `is_ending`: a signal has asked the
    /// machine to end, or something has ended it. Returns a signal if chrootvm has to end by it.
    pub fn update(&mut self, state: &MachineState, is_ending: bool) -> Option<Signal> {
        self.tell_manager(state, is_ending);
        let is_useless = self.watch_condition(state) | self.watch_starter();
        // A second signal would end the machine at once.
        (is_useless && !is_ending).then_some(Signal::SIGTERM)
    }

    fn tell_manager(&mut self, state: &MachineState, is_ending: bool) {
        let Some(notifier) = &self.notifier else { return };
        let status = state.to_string();
        if self.status != status {
            notifier.send(&format!("STATUS={status}"));
            self.status = status;
        }
        if is_ending && !self.is_stopping {
            notifier.send("STOPPING=1");
            self.is_stopping = true;
        }
    }

    /// Returns whether the condition has just turned out to be impossible.
    fn watch_condition(&mut self, state: &MachineState) -> bool {
        let Some(condition) = self.condition.filter(|_| self.progress == Progress::Pending) else {
            return false;
        };
        self.progress = condition.progress(state);
        if self.progress == Progress::Met {
            if let Some(notifier) = &self.notifier {
                notifier.send("READY=1");
            }
            if let Some(starter) = &mut self.starter {
                starter.ready();
            }
        }
        matches!(self.progress, Progress::Never(_))
    }

    /// Returns whether the starter has just ended without leaving the machine alone.
    fn watch_starter(&mut self) -> bool {
        let news = self.starter.as_mut().map_or(StarterNews::Waits, Starter::news);
        if news == StarterNews::Left
            && let Err(error) = leave_standard_error()
        {
            log::warn!("{error:#}");
        }
        if news != StarterNews::Waits {
            self.starter = None;
        }
        news == StarterNews::Gone
    }

    /// Whether the machine was ready; true if nobody waits for it.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.condition.is_none() || self.progress == Progress::Met
    }

    /// The outcome of a machine that has ended with `outcome`, for whoever waits.
    #[must_use]
    pub fn conclude(&self, outcome: Outcome) -> Outcome {
        match (self.progress, self.condition, outcome) {
            (Progress::Never(why), ..) => Outcome::NotReady(why),
            (Progress::Pending, Some(condition), Outcome::Command(0)) => {
                Outcome::NotReady(condition.unmet())
            }
            (_, _, outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const BOOTING: MachineState = MachineState::BOOTING;

    /// A machine with a workload.
    fn workload(activity: Activity, health: Option<Health>) -> MachineState {
        MachineState { activity, health, restarts: Some(0), status: Some(0), ..BOOTING }
    }

    #[test]
    fn a_state_meets_a_condition_or_may_or_cannot() {
        let plain = |activity| MachineState { activity, ..BOOTING };
        let never = |progress| matches!(progress, Progress::Never(_));
        for (state, started, healthy) in [
            (BOOTING, "pending", "pending"),
            (plain(Activity::Running), "met", "never"),
            (plain(Activity::Stopping), "pending", "pending"),
            (workload(Activity::Before, None), "pending", "pending"),
            (workload(Activity::Running, None), "met", "never"),
            (workload(Activity::Running, Some(Health::Starting)), "met", "pending"),
            (workload(Activity::Running, Some(Health::Healthy)), "met", "met"),
            (workload(Activity::Running, Some(Health::Unhealthy)), "met", "never"),
            (workload(Activity::Restarting, None), "met", "pending"),
            (workload(Activity::Stopping, Some(Health::Healthy)), "pending", "pending"),
        ] {
            for (condition, expected) in
                [(Condition::Started, started), (Condition::Healthy, healthy)]
            {
                let found = condition.progress(&state);
                let is_expected = match expected {
                    "met" => found == Progress::Met,
                    "never" => never(found),
                    _ => found == Progress::Pending,
                };
                assert!(is_expected, "{condition:?} {state:?}: {found:?}");
            }
        }
    }

    #[test]
    fn an_end_without_readiness_is_no_success() {
        let healthy = Some(Condition::Healthy);
        let unhealthy = workload(Activity::Running, Some(Health::Unhealthy));
        let well = workload(Activity::Running, Some(Health::Healthy));
        for (condition, states, outcome, expected) in [
            (None, &[BOOTING][..], Outcome::Command(0), None),
            (healthy, &[BOOTING], Outcome::Command(0), Some("before its workload was healthy")),
            (healthy, &[BOOTING], Outcome::Command(7), None),
            (healthy, &[well], Outcome::Command(0), None),
            (healthy, &[well, unhealthy], Outcome::Command(0), None),
            (healthy, &[unhealthy, well], Outcome::Command(0), Some("is unhealthy")),
            (healthy, &[unhealthy], Outcome::Stopped(Signal::SIGTERM), Some("is unhealthy")),
        ] {
            let mut readiness = Readiness::new(condition, None, None);
            for state in states {
                let signal = readiness.update(state, false);
                let is_first = *state == unhealthy && states[0] == unhealthy;
                assert_eq!(signal, is_first.then_some(Signal::SIGTERM), "{states:?}");
            }
            match (readiness.conclude(outcome.clone()), expected) {
                (Outcome::NotReady(why), Some(part)) => assert!(why.contains(part), "{why}"),
                (found, None) => assert_eq!(found, outcome, "{states:?}"),
                (found, _) => panic!("{states:?}: {found:?}"),
            }
        }
        let mut ending = Readiness::new(healthy, None, None);
        assert_eq!(ending.update(&unhealthy, true), None);
    }

    #[test]
    fn a_service_manager_is_told_each_change_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.as_os_str()).unwrap();
        let mut readiness = Readiness::new(None, Some(notifier), None);
        let before = workload(Activity::Before, None);
        let running = workload(Activity::Running, Some(Health::Starting));
        readiness.begin().unwrap();
        for (state, is_ending) in [
            (before, false),
            (running, false),
            (running, false),
            (workload(Activity::Stopping, None), true),
            (workload(Activity::Stopping, None), true),
        ] {
            assert_eq!(readiness.update(&state, is_ending), None);
        }
        drop(readiness);
        socket.set_nonblocking(true).unwrap();
        let mut message = [0; 64];
        let mut messages = Vec::new();
        while let Ok(length) = socket.recv(&mut message) {
            messages.push(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        assert_eq!(
            messages,
            [
                "STATUS=booting",
                "STATUS=before",
                "STATUS=running (starting)",
                "READY=1",
                "STATUS=stopping",
                "STOPPING=1"
            ]
        );
    }
}
