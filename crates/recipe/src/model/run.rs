//! The workload of an image, and the machine that it needs.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::settings::health::Unhealthy;
use proto::settings::restart::RestartPolicy;

use super::network::Network;

/// The workload. What is empty or `None` comes from the base's own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Program and its arguments.
    pub command: Vec<String>,
    /// Arguments after `command`, or after the base's command.
    pub args: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// Guest path of the working directory.
    pub workdir: Option<String>,
    /// Signal that ends the workload: a name with or without `SIG`, or a number.
    pub stop_signal: Option<String>,
    /// Time for the workload to end after that signal.
    pub stop_timeout: Option<Duration>,
    /// Guest paths of directories for data.
    pub volumes: Vec<String>,
    /// Commands that run before the workload, one after the other.
    pub before: Vec<RunCommand>,
    /// When the workload is started again.
    pub restart: Option<RestartPolicy>,
    /// Health check.
    pub health: Option<Health>,
    /// Ports, `PORT`, `PORT/tcp` or `PORT/udp`.
    pub expose: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
}

/// Health check of a workload. `None` means the default of whoever runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The check.
    pub args: RunCommand,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Time limit of one check.
    pub timeout: Option<Duration>,
    /// Time after the start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in the start period.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make the workload unhealthy.
    pub retries: Option<u32>,
    /// What happens to an unhealthy workload.
    pub on_failure: Unhealthy,
}

/// A command beside the workload: its health check, or one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCommand {
    /// Text for `sh -c`.
    Shell(String),
    /// Program and its arguments; never empty.
    Words(Vec<String>),
}

/// What the workload needs of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Number of processors.
    pub cpus: Option<u32>,
    /// Memory in bytes, a multiple of 1 MiB.
    pub memory: Option<u64>,
    /// Network.
    pub network: Option<Network>,
    /// Ports, `[ADDRESS:]HOST:GUEST[/udp]`.
    pub publish: Vec<String>,
}
