//! Config of an image, as instructions change it.
//!
//! Fields and their meaning: OCI Image Configuration, and Docker's additions to it (Shell,
//! Healthcheck).

use std::collections::BTreeMap;
use std::time::Duration;

/// Search path of a step or an image that has no other (BuildKit `system.DefaultPathEnv`).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Config of an image.
///
/// `Config::default()` is the config of an image that configures nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// First words of the command that the image runs.
    pub entrypoint: Vec<String>,
    /// Words behind the entrypoint.
    pub cmd: Vec<String>,
    /// Environment: names and values; a name occurs once.
    pub env: Vec<(String, String)>,
    /// `USER`, `USER:GROUP`, or their numbers; empty: root.
    pub user: String,
    /// Absolute working directory; empty: `/`.
    pub workdir: String,
    /// Name or number of the signal that stops the command.
    pub stop_signal: Option<String>,
    /// Paths that are volumes.
    pub volumes: Vec<String>,
    /// Ports as `NUMBER/PROTOCOL`.
    pub ports: Vec<String>,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// Health check.
    pub health: Option<Health>,
    /// Words before the text of a command in shell form; empty: `/bin/sh -c`.
    pub shell: Vec<String>,
    /// Author of the image.
    pub author: Option<String>,
    /// Arguments that ARG has declared up to here: names and values. They are no part of the
    /// image. A stage inherits them if its base is a stage; they are empty for an image.
    pub arguments: Vec<(String, String)>,
}

impl Config {
    /// Config of the base `scratch`: a search path, as BuildKit has it.
    #[must_use]
    pub fn scratch() -> Self {
        let env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        Self { env, ..Self::default() }
    }

    /// Lengths in bytes of the texts that an image has many of, and of arguments: all but those
    /// of single values such as the user.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        let lists = [&self.entrypoint, &self.cmd, &self.volumes, &self.ports, &self.shell];
        let pairs = self.env.iter().chain(&self.arguments).map(|(name, value)| (name, value));
        let pairs = pairs.chain(&self.labels).map(|(name, value)| name.len() + value.len());
        lists.into_iter().flatten().map(String::len).chain(pairs)
    }
}

/// Health check of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The check.
    pub test: HealthTest,
    /// Time between two checks; `None`: the default of who runs the image. So are the others.
    pub interval: Option<Duration>,
    /// Longest time of a check.
    pub timeout: Option<Duration>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in the start period.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make the image unhealthy.
    pub retries: Option<u32>,
}

/// Check of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthTest {
    /// No check, not even that of the base (`HEALTHCHECK NONE`).
    None,
    /// Text for the shell (`CMD-SHELL` in a config).
    Shell(String),
    /// Words that run without a shell (`CMD` in a config).
    Words(Vec<String>),
}
