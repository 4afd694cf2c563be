//! The health of a workload: when the next check is due, and what the result of one means. Pure.
//!
//! Semantics: Docker's health checks. A failure in the start period does not count, as long as no
//! check has passed. After that, as many failures in a row as the schedule says make the workload
//! unhealthy, and one passed check makes it healthy.

use core::time::Duration;

use proto::settings::health::Schedule;
use proto::workload::Health;

/// Whether a check has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// It has ended with status 0.
    Passed,
    /// It has ended with another status, could not be started, or has taken too long.
    Failed,
}

/// The health of one run of a workload. Times count from any fixed moment.
#[derive(Debug)]
pub struct HealthWatch {
    schedule: Schedule,
    /// Start of the run.
    began: Duration,
    health: Health,
    /// Number of failures in a row that count.
    failures: u32,
    /// Time of the next check.
    due: Duration,
}

impl HealthWatch {
    /// The health of a run that begins at `now`.
    #[must_use]
    pub fn new(schedule: Schedule, now: Duration) -> Self {
        let (health, failures, due) = (Health::Starting, 0, now);
        let mut watch = Self { schedule, began: now, health, failures, due };
        watch.schedule_next(now);
        watch
    }

    /// Time of the next check.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Number of failures in a row that count.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes the result of a check that began at `began` and ended at `now`. Returns the health,
    /// if it has changed.
    pub fn note(&mut self, result: CheckResult, began: Duration, now: Duration) -> Option<Health> {
        let before = self.health;
        match result {
            CheckResult::Passed => (self.health, self.failures) = (Health::Healthy, 0),
            CheckResult::Failed if self.is_starting(began) => {}
            CheckResult::Failed => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.schedule.retries {
                    self.health = Health::Unhealthy;
                }
            }
        }
        self.schedule_next(now);
        (self.health != before).then_some(self.health)
    }

    /// Whether failures at `time` do not count.
    fn is_starting(&self, time: Duration) -> bool {
        let age = time.saturating_sub(self.began);
        self.health == Health::Starting && age < self.schedule.start_period
    }

    fn schedule_next(&mut self, now: Duration) {
        let Schedule { interval, start_interval, .. } = self.schedule;
        let pause = if self.is_starting(now) { start_interval } else { interval };
        self.due = now.saturating_add(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckResult::{Failed, Passed};
    use proptest::prelude::*;
    use std::vec::Vec;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const SCHEDULE: Schedule = Schedule {
        interval: seconds(10),
        timeout: seconds(5),
        start_period: seconds(60),
        start_interval: seconds(1),
        retries: 3,
    };

    /// The health after each of `results`, of checks that take no time.
    fn healths(schedule: Schedule, results: &[CheckResult]) -> Vec<Health> {
        let mut watch = HealthWatch::new(schedule, Duration::ZERO);
        let mut check = |result: &CheckResult| {
            let now = watch.due();
            watch.note(*result, now, now);
            watch.health
        };
        results.iter().map(&mut check).collect()
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy() {
        use Health::{Healthy, Starting, Unhealthy};
        let at_once = Schedule { start_period: Duration::ZERO, ..SCHEDULE };
        let once = Schedule { retries: 1, ..at_once };
        for (name, schedule, results, expected) in [
            ("never passed", at_once, &[Failed; 3][..], &[Starting, Starting, Unhealthy][..]),
            (
                "two of three",
                at_once,
                &[Passed, Failed, Failed, Passed, Failed, Failed],
                &[Healthy; 6],
            ),
            (
                "and back",
                at_once,
                &[Passed, Failed, Failed, Failed, Failed, Passed],
                &[Healthy, Healthy, Healthy, Unhealthy, Unhealthy, Healthy],
            ),
            ("one is enough", once, &[Failed, Passed, Failed], &[Unhealthy, Healthy, Unhealthy]),
            ("start period", SCHEDULE, &[Failed; 3], &[Starting; 3]),
            (
                "a passed check ends the start period",
                SCHEDULE,
                &[Failed, Passed, Failed, Failed, Failed],
                &[Starting, Healthy, Healthy, Healthy, Unhealthy],
            ),
        ] {
            assert_eq!(healths(schedule, results), expected, "{name}");
        }
    }

    #[test]
    fn checks_are_more_frequent_in_the_start_period() {
        let mut watch = HealthWatch::new(SCHEDULE, seconds(100));
        assert_eq!(watch.due(), seconds(101));
        assert_eq!(watch.note(Failed, seconds(101), seconds(103)), None);
        assert_eq!((watch.due(), watch.failures()), (seconds(104), 0));
        // The start period ends during a check: its failure does not count yet.
        assert_eq!(watch.note(Failed, seconds(159), seconds(161)), None);
        assert_eq!((watch.due(), watch.failures()), (seconds(171), 0));
        assert_eq!(watch.note(Failed, seconds(171), seconds(171)), None);
        assert_eq!(watch.failures(), 1);
        assert_eq!(watch.note(Passed, seconds(181), seconds(182)), Some(Health::Healthy));
        assert_eq!((watch.due(), watch.failures()), (seconds(192), 0));
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let schedule = Schedule { interval: Duration::MAX, retries: u32::MAX, ..SCHEDULE };
        let mut watch = HealthWatch::new(schedule, Duration::ZERO);
        watch.failures = u32::MAX;
        watch.note(Failed, Duration::MAX, Duration::MAX);
        assert_eq!((watch.due(), watch.failures()), (Duration::MAX, u32::MAX));
    }

    /// Docker's rule, from the results alone: each is a check's begin after the start, and
    /// whether it has passed.
    fn model(schedule: &Schedule, results: &[(u64, CheckResult)]) -> Health {
        let first_pass = results.iter().position(|(_, result)| *result == Passed);
        let counts = |at: usize| {
            let is_late = seconds(results[at].0) >= schedule.start_period;
            is_late || first_pass.is_some_and(|pass| at > pass)
        };
        let mut health = Health::Starting;
        for at in 0..results.len() {
            let since = (0..=at).rev().take_while(|&at| results[at].1 == Failed);
            let failed = since.filter(|&at| counts(at)).count();
            if results[at].1 == Passed {
                health = Health::Healthy;
            } else if counts(at) && failed >= schedule.retries as usize {
                health = Health::Unhealthy;
            }
        }
        health
    }

    proptest! {
        #[test]
        fn health_is_that_of_the_model(
            (retries, start_period) in (1_u32..5, 0_u64..40),
            checks in prop::collection::vec((0_u64..15, 0_u64..15, any::<bool>()), 0..30),
        ) {
            let schedule = Schedule { retries, start_period: seconds(start_period), ..SCHEDULE };
            let mut watch = HealthWatch::new(schedule, seconds(7));
            let (mut known, mut now, mut results) = (Health::Starting, 0, Vec::new());
            for (pause, length, passed) in checks {
                let began = now + pause;
                now = began + length;
                let result = if passed { Passed } else { Failed };
                results.push((began, result));
                let changed = watch.note(result, seconds(7 + began), seconds(7 + now));
                let expected = model(&schedule, &results);
                prop_assert_eq!(changed, (expected != known).then_some(expected));
                known = expected;
                prop_assert!(watch.due() > seconds(7 + now));
            }
        }
    }
}
