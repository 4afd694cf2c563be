//! The state of a workload, as PID 1 reports it to the host.

use core::time::Duration;

use crate::settings::millis;

/// State of a workload, which PID 1 supervises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkloadState {
    /// What PID 1 does with it.
    pub phase: Phase,
    /// What its checks say; `None` if it has no check, or does not run.
    pub health: Option<Health>,
    /// Number of starts after the first one.
    pub restarts: u32,
    /// Exit status of the run before, as a shell has it; 0 before the first end.
    pub status: u8,
    /// Time that it gets to end when it is asked to, in whole milliseconds.
    pub stop_timeout: Duration,
}

/// What PID 1 does with a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The commands before it run.
    #[default]
    Before,
    /// It runs.
    Running,
    /// It has ended, and starts again after a pause.
    Pausing,
    /// It was asked to end.
    Stopping,
}

/// What the checks say about a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No check has passed, and too few have failed.
    Starting,
    /// The last check that counts has passed, or too few have failed since.
    Healthy,
    /// Too many checks have failed in a row.
    Unhealthy,
}

/// Phases in the order of their numbers in `workload`.
const PHASES: [Phase; 4] = [Phase::Before, Phase::Running, Phase::Pausing, Phase::Stopping];

/// States of health by their numbers in `workload`: 0, or one more than that of the value.
const HEALTHS: [Option<Health>; 4] =
    [None, Some(Health::Starting), Some(Health::Healthy), Some(Health::Unhealthy)];

/// The value with this number in a table.
fn numbered<T: Copy>(table: &[T], number: u64) -> Option<T> {
    table.get(usize::try_from(number).ok()?).copied()
}

impl WorkloadState {
    /// The numbers after `workload`: phase, health, restarts, status and milliseconds.
    pub(crate) fn to_numbers(self) -> [u64; 5] {
        let Self { phase, health, restarts, status, stop_timeout } = self;
        let health = health.map_or(0, |health| health as u64 + 1);
        [phase as u64, health, restarts.into(), status.into(), millis(stop_timeout)]
    }

    /// Reads those numbers. `None`: one of them has no meaning.
    pub(crate) fn from_numbers(numbers: [u64; 5]) -> Option<Self> {
        let [phase, health, restarts, status, stop_timeout] = numbers;
        Some(Self {
            phase: numbered(&PHASES, phase)?,
            health: numbered(&HEALTHS, health)?,
            restarts: restarts.try_into().ok()?,
            status: status.try_into().ok()?,
            stop_timeout: Duration::from_millis(stop_timeout),
        })
    }
}
