//! Where the time of a run goes: `--timing`.

use std::time::{Duration, Instant};

use crate::session::{Started, State};

/// Moments of a run.
#[derive(Debug)]
pub struct Timing {
    start: Instant,
    machine: Option<Instant>,
    /// When the host heard that the command runs, and the guest's own clock.
    running: Option<(Instant, Started)>,
    ended: Option<Instant>,
}

impl Timing {
    /// A run that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), machine: None, running: None, ended: None }
    }

    /// QEMU was started.
    pub fn machine_started(&mut self) {
        self.machine = Some(Instant::now());
    }

    /// Notes what a session tells: of a short command its start and its end may
    /// be told at once.
    pub fn note(&mut self, started: Option<Started>, state: &State) {
        if self.running.is_none() {
            self.running = started.map(|started| (Instant::now(), started));
        }
        if matches!(state, State::Ended(_)) && self.ended.is_none() {
            self.ended = Some(Instant::now());
        }
    }

    /// Whether the command ever ran.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.running.is_some()
    }

    /// One line: the phases as far as the run got, in milliseconds. `cargo xtask
    /// bench` reads it.
    #[must_use]
    pub fn summary(&self) -> String {
        let (Some(machine), Some((running, started))) = (self.machine, self.running) else {
            return format!("timing: {} ms, the command did not run", millis(self.start.elapsed()));
        };
        let Started { init, command } = started;
        let ended = self.ended.unwrap_or_else(Instant::now);
        let phases = [
            ("host set-up", machine - self.start),
            ("firmware", (running - machine).saturating_sub(command)),
            ("kernel", init),
            ("init", command.saturating_sub(init)),
            ("command", ended - running),
            ("tear-down", ended.elapsed()),
        ];
        let phases: Vec<_> =
            phases.iter().map(|(name, time)| format!("{name} {}", millis(*time))).collect();
        format!("timing: {}; {} ms in all", phases.join(", "), millis(self.start.elapsed()))
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_as_far_as_they_are_known() {
        let mut timing = Timing::start();
        assert!(timing.summary().ends_with("the command did not run"));
        timing.machine_started();
        let (init, command) = (Duration::from_millis(700), Duration::from_millis(750));
        timing.note(Some(Started { init, command }), &State::Ended(0));
        let summary = timing.summary();
        assert!(summary.contains("kernel 700.0, init 50.0, command 0.0, "), "{summary}");
    }
}
