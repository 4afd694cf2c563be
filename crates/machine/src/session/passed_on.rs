//! Signals to chrootvm that are passed on to the guest.
//!
//! The first signal that asks chrootvm to end goes to the command instead, or becomes the power
//! button of a machine with INIT. If the command or the machine does not end in time, or another
//! signal follows, chrootvm ends without it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

/// Time for a command to end after SIGTERM or SIGHUP, as container engines allow.
const COMMAND_GRACE: Duration = Duration::from_secs(10);

/// Time for a guest to end after its workload: the other processes of the guest end, and all files
/// are written to disk.
const LAST_STEPS: Duration = Duration::from_secs(10);

/// Time for a guest to power off after its power button was pressed. It is longer than that of
/// a command: a whole system has to end its services.
const POWER_OFF_GRACE: Duration = Duration::from_secs(30);

/// The signal that was passed on to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOnSignal {
    signal: Signal,
    /// Time at which chrootvm ends without the guest; `None` for never.
    deadline: Option<Instant>,
}

impl PassedOnSignal {
    /// A signal that is passed on to the command `now`. SIGINT and SIGQUIT, which a person sends,
    /// have no deadline: a shell or a debugger does not end on them.
    #[must_use]
    pub fn new(signal: Signal, now: Instant) -> Self {
        let is_from_a_key = matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
        Self { signal, deadline: (!is_from_a_key).then(|| now + COMMAND_GRACE) }
    }

    /// A signal that has asked a workload `now` to end for good. It has the time `limit`, and so has
    /// what it leaves.
    /// The guest kills the workload then, so even a signal of a person has a deadline.
    #[must_use]
    pub fn to_workload(signal: Signal, limit: Duration, now: Instant) -> Self {
        Self {
            signal,
            deadline: now.checked_add(limit.saturating_mul(2).saturating_add(LAST_STEPS)),
        }
    }

    /// A signal that has pressed the power button of the guest `now`.
    #[must_use]
    pub fn to_power_button(signal: Signal, now: Instant) -> Self {
        Self { signal, deadline: Some(now + POWER_OFF_GRACE) }
    }

    /// Time at which chrootvm ends without the guest; `None` for never.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The signal, if the deadline has passed `now`.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<Signal> {
        self.deadline.is_some_and(|deadline| deadline <= now).then_some(self.signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_deadlines() {
        let now = Instant::now();
        for (signal, expected) in [
            (Signal::SIGTERM, Some(Signal::SIGTERM)),
            (Signal::SIGHUP, Some(Signal::SIGHUP)),
            (Signal::SIGINT, None),
            (Signal::SIGQUIT, None),
        ] {
            let passed_on = PassedOnSignal::new(signal, now);
            assert_eq!(passed_on.expired(now), None, "{signal}");
            assert_eq!(passed_on.expired(now + COMMAND_GRACE), expected, "{signal}");
        }
        let limit = Duration::from_secs(90);
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
            let passed_on = PassedOnSignal::to_workload(signal, limit, now);
            assert_eq!(passed_on.expired(now + 2 * limit), None, "{signal}");
            assert_eq!(passed_on.expired(now + 2 * limit + LAST_STEPS), Some(signal), "{signal}");
        }
        let passed_on = PassedOnSignal::to_power_button(Signal::SIGHUP, now);
        assert_eq!(passed_on.expired(now + COMMAND_GRACE), None);
        assert_eq!(passed_on.expired(now + POWER_OFF_GRACE), Some(Signal::SIGHUP));
    }
}
