//! The workload of a machine, as its guest reports it.
//!
//! Format: [`proto::workload`]. The guest is not trusted: it may report states in any order and
//! with any numbers.

use std::time::{Duration, Instant};

use proto::workload::{Phase, WorkloadState};

/// Longest time to end that a guest may claim for its workload; chrootvm waits so long after a
/// signal. No workload needs more than a day.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The last state that a guest has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedWorkload {
    state: WorkloadState,
    since: Option<Instant>,
}

impl ReportedWorkload {
    /// The workload once its guest has reported `state`; `previous` is what it had reported before.
    #[must_use]
    pub fn after(previous: Option<Self>, mut state: WorkloadState, now: Instant) -> Self {
        state.stop_timeout = state.stop_timeout.min(STOP_TIMEOUT_MAX);
        // Another number of restarts is another run, even if no state between them was reported.
        let same_run = previous.filter(|previous| previous.state.restarts == state.restarts);
        let began = same_run.and_then(|previous| previous.since).unwrap_or(now);
        Self { state, since: (state.phase == Phase::Running).then_some(began) }
    }

    /// The state. Its time to end is at most a day.
    #[must_use]
    pub fn state(&self) -> &WorkloadState {
        &self.state
    }

    /// Start of the present run, by the clock of the host; `None` if the workload does not run.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_when_the_workload_starts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut workload = None;
        for (second, phase, restarts, expected) in [
            (1, Phase::Before, 0, None),
            (2, Phase::Running, 0, Some(2)),
            // Its health may have changed.
            (3, Phase::Running, 0, Some(2)),
            (4, Phase::Pausing, 0, None),
            (5, Phase::Running, 1, Some(5)),
            (6, Phase::Running, 2, Some(6)),
            (7, Phase::Stopping, 2, None),
            (8, Phase::Running, 2, Some(8)),
            (9, Phase::Running, 0, Some(9)),
        ] {
            let state = WorkloadState { phase, restarts, ..WorkloadState::default() };
            let next = ReportedWorkload::after(workload, state, at(second));
            assert_eq!(next.since(), expected.map(at), "second {second}");
            workload = Some(next);
        }
    }

    #[test]
    fn the_time_to_end_is_bounded() {
        let day = Duration::from_secs(86_400);
        for (claimed, expected) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_secs(90), Duration::from_secs(90)),
            (day + Duration::from_millis(1), day),
            (Duration::from_millis(u64::MAX), day),
        ] {
            let state = WorkloadState { stop_timeout: claimed, ..WorkloadState::default() };
            let workload = ReportedWorkload::after(None, state, Instant::now());
            assert_eq!(workload.state().stop_timeout, expected);
        }
    }
}
