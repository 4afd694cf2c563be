//! Options of machines that somebody waits for: `--detach` and `--wait`.

use std::ffi::OsStr;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use files::tell;
use machine::process::notify::{NOTIFY_SOCKET, Notifier};
use machine::running::detached::{Background, Started, Starter};
use machine::running::readiness::{Condition, Readiness};

/// Machines that somebody waits for
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Machine")]
pub(super) struct BackgroundOptions {
    /// Run the machine in the background: print its name, and return once it is ready
    #[arg(short, long, conflicts_with = "tty")]
    detach: bool,
    /// When the machine is ready, for --detach and for NOTIFY_SOCKET of a service manager
    /// [default: started]
    ///
    /// started: COMMAND, INIT or the workload runs. healthy: a health check of the workload has
    /// passed; a workload that is unhealthy before, or has no check, is an error.
    #[arg(long, value_enum, value_name = "CONDITION", hide_possible_values = true)]
    wait: Option<WaitFor>,
    /// The chrootvm that has started this one in the background.
    #[arg(skip)]
    pub(super) starter: Option<Starter>,
}

/// Value of `--wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum WaitFor {
    Started,
    Healthy,
}

impl BackgroundOptions {
    /// Whether the machine has to run in another process, in the background.
    pub(super) fn has_to_detach(&self) -> bool {
        self.detach && self.starter.is_none()
    }

    /// Whether this process runs its machine in the background.
    pub(super) fn is_in_background(&self) -> bool {
        self.starter.is_some()
    }

    /// The wait for the machine, which runs `init` as PID 1 if there is one.
    ///
    /// # Errors
    /// INIT has no health check.
    pub(super) fn readiness(self, init: Option<&OsStr>) -> Result<Readiness> {
        let condition = self.wait.map(|wait| match wait {
            WaitFor::Started => Condition::Started,
            WaitFor::Healthy => Condition::Healthy,
        });
        ensure!(
            condition != Some(Condition::Healthy) || init.is_none(),
            "--wait healthy is for a workload, which has a health check; INIT has none"
        );
        let notifier = match std::env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty()) {
            Some(name) => Notifier::new(&name).map_err(|error| log::warn!("{error:#}")).ok(),
            None => None,
        };
        Ok(Readiness::new(condition, notifier, self.starter))
    }
}

/// Starts the machine of this process' arguments in the background, and waits until it is
/// ready. `name` is that of `--name`. Returns the exit status.
pub(super) fn detach(name: Option<&str>) -> Result<ExitCode> {
    let mut background = Background::start(std::env::args_os().skip(1))?;
    let started = background.wait()?;
    match started {
        Started::Ready => {
            // If the name cannot be written, nobody knows the machine, and it ends.
            let pid = background.pid().to_string();
            tell::result(format!("{}\n", name.unwrap_or(&pid)))?;
            background.leave();
        }
        Started::Killed(signal) => {
            log::error!("signal {signal} has killed the chrootvm of the machine");
        }
        Started::Ended(_) => {}
    }
    Ok(ExitCode::from(started.exit_status()))
}
