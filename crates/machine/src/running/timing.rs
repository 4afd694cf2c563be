//! Duration of each phase of a run (`--timing`).

use std::time::{Duration, Instant};

use crate::session::control::{SessionState, StartTimes};

/// Times of the events of a run.
#[derive(Debug)]
pub struct Timing {
    start: Instant,
    machine: Option<Instant>,
    /// Times at which the machine had the state of its template, and its orders.
    loaded: Option<Instant>,
    ordered: Option<Instant>,
    /// Time at which chrootvm learnt that the command runs, and times by the guest's clock.
    running: Option<(Instant, StartTimes)>,
    ended: Option<Instant>,
}

impl Timing {
    /// A run that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            machine: None,
            loaded: None,
            ordered: None,
            running: None,
            ended: None,
        }
    }

    /// Records that QEMU was started.
    pub fn machine_started(&mut self) {
        self.machine = Some(Instant::now());
    }

    /// Records that the machine has the state of its template.
    pub fn loaded(&mut self) {
        self.loaded = Some(Instant::now());
    }

    /// Records that a machine of a template has its orders.
    pub fn ordered(&mut self) {
        self.ordered = Some(Instant::now());
    }

    /// Records that the machine starts once more, without a template.
    pub fn restarted(&mut self) {
        (self.machine, self.loaded, self.ordered) = (None, None, None);
    }

    /// Records the state of a session. A short command may have started and ended since the
    /// last call.
    pub fn note(&mut self, started: Option<StartTimes>, state: &SessionState) {
        if self.running.is_none() {
            self.running = started.map(|started| (Instant::now(), started));
        }
        if matches!(state, SessionState::Ended(_)) && self.ended.is_none() {
            self.ended = Some(Instant::now());
        }
    }

    /// Whether the command has started.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.running.is_some()
    }

    /// Time since the start of the run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// One line with the duration of each phase in milliseconds. The benchmarks parse it.
    #[must_use]
    pub fn summary(&self) -> String {
        let all = millis(self.elapsed());
        let phases = self.phases();
        if phases.is_empty() {
            return format!("timing: {all} ms, the command did not run");
        }
        let is_warm = self.loaded.is_some() && self.ordered.is_some();
        let note = if is_warm { " (warm)" } else { "" };
        let phases: Vec<_> =
            phases.into_iter().map(|(name, time)| format!("{name} {}", millis(time))).collect();
        format!("timing: {}; {all} ms in all{note}", phases.join(", "))
    }

    /// Name and duration of each phase, in their order; none if the command did not run.
    #[must_use]
    pub fn phases(&self) -> Vec<(&'static str, Duration)> {
        let (Some(machine), Some((running, started))) = (self.machine, self.running) else {
            return Vec::new();
        };
        let StartTimes { init, command } = started;
        let ended = self.ended.unwrap_or_else(Instant::now);
        let start = match (self.loaded, self.ordered) {
            (Some(loaded), Some(ordered)) => [
                ("load", loaded - machine),
                ("devices", ordered - loaded),
                ("init", running - ordered),
            ],
            _ => [
                ("firmware", (running - machine).saturating_sub(command)),
                ("kernel", init),
                ("init", command.saturating_sub(init)),
            ],
        };
        let phases = [("host set-up", machine - self.start)].into_iter().chain(start);
        phases.chain([("command", ended - running), ("tear-down", ended.elapsed())]).collect()
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_phases_that_the_run_reached() {
        let mut timing = Timing::start();
        assert!(timing.summary().ends_with("the command did not run"));
        timing.machine_started();
        let (init, command) = (Duration::from_millis(700), Duration::from_millis(750));
        timing.note(Some(StartTimes { init, command }), &SessionState::Ended(0));
        let summary = timing.summary();
        assert!(summary.contains("kernel 700.0, init 50.0, command 0.0, "), "{summary}");
    }
}
