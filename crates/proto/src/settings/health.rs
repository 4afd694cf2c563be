//! The health check of an image, as records of the run file.
//!
//! Source: the `Healthcheck` field that Docker adds to the configuration of an image. The host
//! turns it into records: a check for a shell becomes the words `/bin/sh`, `-c` and the text,
//! and a time that the image leaves out, or gives as 0, becomes its default.
//!
//! `/init` reads and checks the records. It does not run the check yet.

use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use crate::words::{number, words};

/// A command that finds out whether a workload works, and how often to run it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Health<'a> {
    /// The program and its arguments; empty if the image has no check. Exit status 0 means
    /// that the workload works.
    pub args: Vec<&'a CStr>,
    /// Times and limits of the check.
    pub schedule: Schedule,
}

/// Times and limits of a health check. The default is Docker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Pause between the end of a check and the next one.
    pub interval: Duration,
    /// Time after which a check counts as failed.
    pub timeout: Duration,
    /// Time after the start of the workload in which failures do not count.
    pub start_period: Duration,
    /// Pause between two checks in the start period.
    pub start_interval: Duration,
    /// Number of failures in a row after which the workload is unhealthy; not 0.
    pub retries: u32,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            retries: 3,
        }
    }
}

impl Schedule {
    /// Reads `INTERVAL TIMEOUT START-PERIOD START-INTERVAL RETRIES`: times in milliseconds, in
    /// decimal. Only the start period may be 0.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (mut words, mut numbers) = (words(value), [0; 5]);
        for place in &mut numbers {
            *place = number(words.next()?)?;
        }
        let [interval, timeout, start_period, start_interval, retries] = numbers;
        let has_zero = [interval, timeout, start_interval, retries].contains(&0);
        if has_zero || words.next().is_some() {
            return None;
        }
        let [interval, timeout, start_period, start_interval] =
            [interval, timeout, start_period, start_interval].map(Duration::from_millis);
        let retries = u32::try_from(retries).ok()?;
        Some(Self { interval, timeout, start_period, start_interval, retries })
    }

    /// The value of the record. Parts of a millisecond count as a whole one.
    pub(crate) fn to_value(self) -> Vec<u8> {
        let Self { interval, timeout, start_period, start_interval, retries } = self;
        let [interval, timeout, start_period, start_interval] =
            [interval, timeout, start_period, start_interval].map(millis);
        format!("{interval} {timeout} {start_period} {start_interval} {retries}").into_bytes()
    }
}

/// Milliseconds in 64 bits, enough for half a billion years.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_they_were_written() {
        let schedule = Schedule {
            interval: Duration::from_secs(90),
            timeout: Duration::from_millis(1),
            start_period: Duration::from_secs(1),
            start_interval: Duration::from_millis(500),
            retries: 10,
        };
        assert_eq!(schedule.to_value(), b"90000 1 1000 500 10");
        for schedule in [schedule, Schedule::default()] {
            assert_eq!(Schedule::parse(&schedule.to_value()), Some(schedule));
        }
        let short = Schedule { timeout: Duration::from_nanos(1), ..schedule };
        assert_eq!(short.to_value(), b"90000 1 1000 500 10");
    }

    #[test]
    fn bad_schedules_are_refused() {
        for text in [
            "",
            "1 1 0 1",
            "1 1 0 1 1 1",
            "0 1 0 1 1",
            "1 0 0 1 1",
            "1 1 0 0 1",
            "1 1 0 1 0",
            "1 1 0 1 4294967296",
            "1s 1 0 1 1",
            "1  1 0 1 1",
            "-1 1 0 1 1",
            "18446744073709551616 1 0 1 1",
        ] {
            assert_eq!(Schedule::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Schedule::parse(b"18446744073709551615 1 0 1 1").is_some());
    }
}
