//! When a request is repeated, and how long to wait before.
//!
//! Interface: the header `Retry-After` (RFC 9110 §10.2.3), seconds or a date. Without it the
//! waits double. The number of repetitions is limited, and so is their time in all: a registry
//! that wants hours gets an error that says so.

use std::time::{Duration, SystemTime};

/// Limits of repetition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most requests for one thing.
    pub(super) attempts: u32,
    /// First wait of a request that the registry says no time for; each further one is twice as
    /// long.
    pub(super) pause: Duration,
    /// Longest time of all waits.
    pub(super) total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_millis(500), total: Duration::from_secs(60) }
    }
}

/// Repetitions of one request.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    limits: Limits,
    attempts: u32,
    waited: Duration,
}

impl Retry {
    /// No attempt was made yet.
    #[must_use]
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, attempts: 0, waited: Duration::ZERO }
    }

    /// How long to wait before the next attempt, after one that failed. `asked` is the time that
    /// the registry asked for. `None` if there is no further attempt.
    pub(super) fn after_failure(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.attempts += 1;
        let doubled = self.limits.pause.saturating_mul(1 << (self.attempts - 1).min(16));
        let pause = asked.unwrap_or(doubled);
        let waited = self.waited.saturating_add(pause);
        if self.attempts >= self.limits.attempts || waited > self.limits.total {
            return None;
        }
        self.waited = waited;
        Some(pause)
    }
}

/// The time that a header `Retry-After` asks for; `None` if it makes no sense.
#[must_use]
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_until_the_attempts_end() {
        let limits = Limits { attempts: 4, pause: SECOND, total: 100 * SECOND };
        let mut retry = Retry::new(limits);
        for expected in [Some(SECOND), Some(2 * SECOND), Some(4 * SECOND), None, None] {
            assert_eq!(retry.after_failure(None), expected);
        }
    }

    #[test]
    fn the_time_in_all_is_limited() {
        let limits = Limits { attempts: 100, pause: SECOND, total: 10 * SECOND };
        assert_eq!(Retry::new(limits).after_failure(Some(3600 * SECOND)), None);
        let mut retry = Retry::new(limits);
        assert_eq!(retry.after_failure(Some(6 * SECOND)), Some(6 * SECOND));
        assert_eq!(retry.after_failure(Some(6 * SECOND)), None);
        assert_eq!(retry.after_failure(Some(4 * SECOND)), Some(4 * SECOND));
        assert_eq!(Retry::new(limits).after_failure(Some(Duration::MAX)), None);
    }

    #[test]
    fn times_are_parsed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
