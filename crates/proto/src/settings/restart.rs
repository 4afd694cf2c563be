//! Whether and when the command of an image starts again, as records of the run file.
//!
//! The default pauses are Docker's: 100 ms, and twice as long after each start up to a minute,
//! until the command has run for ten seconds.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::{from_millis, millis};
use crate::words::numbers;

/// After which end the command of an image starts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// After none: the machine ends with the command.
    #[default]
    No,
    /// After an end with another status than 0.
    OnFailure,
    /// After any end.
    Always,
}

/// Values of `restart=`, and their meanings.
pub const RESTARTS: [(&str, Restart); 3] =
    [("no", Restart::No), ("on-failure", Restart::OnFailure), ("always", Restart::Always)];

/// Pauses before the command starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause, in whole milliseconds; not 0.
    pub first: Duration,
    /// The longest pause, in whole milliseconds; at least the first.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// A command that ran this long is in no loop of crashes: the next pause is the first one.
    pub const STABLE: Duration = Duration::from_secs(10);

    /// Reads `FIRST LONGEST`, times in milliseconds, in decimal.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let [first, longest] = numbers(value)?.map(from_millis);
        (!first.is_zero() && first <= longest).then_some(Self { first, longest })
    }

    /// The value of the record.
    pub(crate) fn to_value(self) -> Vec<u8> {
        format!("{} {}", millis(self.first), millis(self.longest)).into_bytes()
    }
}

/// What decides whether, and after which pause, a command starts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartPolicy {
    /// After which end it starts again.
    pub when: Restart,
    /// Most starts after the first one; `None`: any number.
    pub max: Option<u32>,
    /// The pauses.
    pub backoff: Backoff,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_read_as_they_were_written() {
        let millis = Duration::from_millis;
        let backoff = Backoff { first: millis(1), longest: millis(60_000) };
        assert_eq!(backoff.to_value(), b"1 60000");
        for backoff in [backoff, Backoff::default()] {
            assert_eq!(Backoff::parse(&backoff.to_value()), Some(backoff));
        }
        for bad in
            ["", "1", "0 1", "2 1", "1 2 3", "1s 2", "1  2", "-1 1", "18446744073709551616 1"]
        {
            assert_eq!(Backoff::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
