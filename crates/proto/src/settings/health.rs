//! The health check of an image, as records of the run file.
//!
//! Source: the `Healthcheck` field that Docker adds to the configuration of an image. The host
//! turns it into records: a check for a shell becomes the words `/bin/sh`, `-c` and the text,
//! and a time that the image leaves out, or gives as 0, becomes its default.
//!
use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use super::{from_millis, millis};
use crate::words::numbers;

/// What happens to a workload that has become unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unhealthy {
    /// Nothing but a message.
    #[default]
    Report,
    /// It is stopped and started again, whatever its restart policy says, but after the pauses
    /// of that policy and at most as often.
    Restart,
    /// It is stopped, and the machine ends.
    PowerOff,
}

/// Values of `health-on-failure=`, and their meanings.
pub const UNHEALTHY: [(&str, Unhealthy); 3] = [
    ("none", Unhealthy::Report),
    ("restart", Unhealthy::Restart),
    ("poweroff", Unhealthy::PowerOff),
];

/// A command that finds out whether a workload works, and how often to run it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Health<'a> {
    /// The program and its arguments; empty if the image has no check. Exit status 0 means
    /// that the workload works.
    pub args: Vec<&'a CStr>,
    /// Times and limits of the check.
    pub schedule: Schedule,
    /// What happens if the workload is unhealthy.
    pub unhealthy: Unhealthy,
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
        let [interval, timeout, start_period, start_interval, retries] = numbers(value)?;
        if [interval, timeout, start_interval, retries].contains(&0) {
            return None;
        }
        let [interval, timeout, start_period, start_interval] =
            [interval, timeout, start_period, start_interval].map(from_millis);
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
