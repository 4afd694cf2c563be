//! Waiting for devices that appear late, without delay for those that exist.
//!
//! Interface: nanosleep(2).

use core::time::Duration;

use rustix::io::{Errno, Result};
use rustix::thread::{NanosleepRelativeResult, Timespec};

/// The first pause; most devices that are being probed appear within it.
const FIRST: Duration = Duration::from_millis(5);

/// The longest pause, and so the longest time until a new device is noticed.
const LONGEST: Duration = Duration::from_millis(100);

/// Pauses that double up to a tenth of a second and add up to a limit.
#[derive(Clone, Debug)]
pub struct Pauses {
    left: Duration,
    next: Duration,
}

impl Pauses {
    /// Pauses that add up to `limit`.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { left: limit, next: FIRST }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next.min(self.left);
        self.left = self.left.saturating_sub(pause);
        self.next = (self.next * 2).min(LONGEST);
        (!pause.is_zero()).then_some(pause)
    }
}

/// Position of an attempt among all attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The first.
    First,
    /// The first after a pause.
    Second,
    /// A later one, except the last.
    Again,
    /// The last.
    Last,
}

/// Calls `attempt` until it returns another result than an error of `late`, or `limit` has
/// passed; returns the last result.
pub fn until<T>(
    limit: Duration,
    late: &[Errno],
    attempt: &mut dyn FnMut(Attempt) -> Result<T>,
) -> Result<T> {
    let mut number = Attempt::First;
    for pause in Pauses::within(limit) {
        match attempt(number) {
            Err(errno) if late.contains(&errno) => sleep(pause),
            result => return result,
        }
        number = match number {
            Attempt::First => Attempt::Second,
            _ => Attempt::Again,
        };
    }
    attempt(Attempt::Last)
}

/// `duration` as system calls take it.
#[must_use]
pub fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

/// Sleeps for the whole `duration`, even if signals arrive.
pub fn sleep(duration: Duration) {
    let mut left = timespec(duration);
    while let NanosleepRelativeResult::Interrupted(rest) = rustix::thread::nanosleep(&left) {
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_add_up_to_the_limit() {
        for millis in [0, 1, 5, 42, 5000] {
            let limit = Duration::from_millis(millis);
            let sum: Duration = Pauses::within(limit).sum();
            assert_eq!(sum, limit);
            assert!(Pauses::within(limit).all(|pause| pause <= LONGEST));
        }
    }

    #[test]
    fn only_lateness_is_waited_for() {
        let limit = Duration::from_millis(20);
        let mut attempts = std::vec::Vec::new();
        let late = until::<()>(limit, &[Errno::NOENT], &mut |attempt| {
            attempts.push(attempt);
            Err(Errno::NOENT)
        });
        assert_eq!(late, Err(Errno::NOENT));
        assert_eq!(attempts[..2], [Attempt::First, Attempt::Second]);
        assert_eq!(attempts.last(), Some(&Attempt::Last));

        let mut count = 0;
        let other = until::<()>(limit, &[Errno::NOENT], &mut |_| {
            count += 1;
            Err(Errno::IO)
        });
        assert_eq!((other, count), (Err(Errno::IO), 1));
        assert_eq!(until(Duration::ZERO, &[], &mut Ok), Ok(Attempt::Last));
    }
}
