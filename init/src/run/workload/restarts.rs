//! Whether a workload starts again after its end, and after which pause. Pure.

use core::time::Duration;

use proto::settings::restart::{Backoff, Restart, RestartPolicy};

/// The restarts of a workload under its policy.
#[derive(Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    /// Number of restarts so far.
    count: u32,
    /// The next pause.
    pause: Duration,
}

/// How a run of a workload has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Status(u8),
    /// `/init` has ended it, because it was unhealthy and is to be started again.
    Unhealthy,
    /// `/init` has ended it, because a person wants it to be started again.
    Ordered,
}

impl Restarts {
    /// No restart has happened yet.
    #[must_use]
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, count: 0, pause: policy.backoff.first }
    }

    /// Number of restarts so far, without those that were ordered.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The pause before the next start, after a run of length `ran`; `None` if the workload does
    /// not start again. Pauses double, until a run was long.
    pub fn after(&mut self, end: End, ran: Duration) -> Option<Duration> {
        let is_due = match (self.policy.when, end) {
            (_, End::Ordered) => return Some(Duration::ZERO),
            (Restart::Always, _) | (_, End::Unhealthy) => true,
            (Restart::OnFailure, End::Status(status)) => status != 0,
            (Restart::No, End::Status(_)) => false,
        };
        if !is_due || self.policy.max.is_some_and(|max| self.count >= max) {
            return None;
        }
        self.count = self.count.saturating_add(1);
        let Backoff { first, longest } = self.policy.backoff;
        if ran >= Backoff::STABLE {
            self.pause = first;
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(longest);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const FAILED: End = End::Status(1);

    #[test]
    fn pauses_grow_while_it_crashes() {
        let policy = RestartPolicy { when: Restart::Always, ..RestartPolicy::default() };
        let mut restarts = Restarts::new(policy);
        let mut after = |seconds| {
            let pause = restarts.after(FAILED, Duration::from_secs(seconds));
            pause.unwrap().as_millis()
        };
        let pauses: Vec<_> = (0..12).map(|_| after(9)).collect();
        assert_eq!(
            pauses,
            [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]
        );
        assert_eq!([after(10), after(0), after(0)], [100, 200, 400]);
    }

    #[test]
    fn ends_are_judged_by_the_policy() {
        for (when, success, failure) in [
            (Restart::No, false, false),
            (Restart::OnFailure, false, true),
            (Restart::Always, true, true),
        ] {
            for (end, expected) in [
                (End::Status(0), success),
                (FAILED, failure),
                (End::Unhealthy, true),
                (End::Ordered, true),
            ] {
                let mut restarts = Restarts::new(RestartPolicy { when, ..Default::default() });
                let is_due = restarts.after(end, Duration::ZERO).is_some();
                assert_eq!(is_due, expected, "{when:?} {end:?}");
            }
        }
    }

    #[test]
    fn restarts_are_counted() {
        for (max, expected) in [(Some(0), 0), (Some(3), 3), (None, 9)] {
            let when = Restart::OnFailure;
            let mut restarts = Restarts::new(RestartPolicy { when, max, ..Default::default() });
            // A long run lets the pauses begin again, and not the count.
            let mut next = || restarts.after(FAILED, Backoff::STABLE);
            assert_eq!((0..9).filter(|_| next().is_some()).count(), expected, "{max:?}");
        }
    }

    #[test]
    fn ordered_restarts_do_not_count() {
        let policy = RestartPolicy { when: Restart::No, max: Some(0), ..Default::default() };
        let mut restarts = Restarts::new(policy);
        for _ in 0..9 {
            assert_eq!(restarts.after(End::Ordered, Duration::ZERO), Some(Duration::ZERO));
        }
        assert_eq!(restarts.count(), 0);
    }

    #[test]
    fn long_pauses_do_not_overflow() {
        let backoff = Backoff { first: Duration::MAX / 2, longest: Duration::MAX };
        let policy = RestartPolicy { when: Restart::Always, max: None, backoff };
        let mut restarts = Restarts::new(policy);
        let pauses: Vec<_> = (0..4).map(|_| restarts.after(FAILED, Duration::ZERO)).collect();
        assert_eq!(pauses[2..], [Some(Duration::MAX); 2]);
    }
}
