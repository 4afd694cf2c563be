//! `chrootvm restart`: ends the workloads of running machines, and starts them again.
//!
//! It sends a request to the chrootvm of each machine, which passes it on to `/init`, and waits
//! until a new run of the workload has started ([`machine::running::broker`]).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use machine::plan::exit_status::EXIT_TIMEOUT;
use machine::running::broker::{RESTART, RESTARTED};
use machine::running::registry;

use crate::line::values::{parse_duration, parse_name};
use crate::named_machine::{Limit, NamedMachine, Waited, ask_all};

/// End the workloads of running machines, and start them again
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm restart web\n  \
                   chrootvm restart --timeout 20s web other",
    override_usage = "chrootvm restart [OPTIONS] NAME...",
    after_help = "Exit status: 0 the workloads have started again, 124 one has not within --timeout, \
                  125 a machine has ended, has no workload, or could not be asked."
)]
pub struct Restart {
    /// Names of the machines, as `chrootvm ps` lists them
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    names: Vec<String>,
    /// Fail if a workload has not started again after this time: 90, 4s, 5m
    /// [default: wait until it has]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Restart {
    /// Starts the workloads again, and returns the exit status. A machine that fails is reported,
    /// and does not keep the others from their restart.
    pub fn run(self) -> Result<ExitCode> {
        Ok(ask_all(&self.names, RESTART, self.timeout, wait))
    }
}

/// Waits until the workload of `machine`, which was asked to, has started again. Returns the exit
/// status.
fn wait(machine: &NamedMachine<'_>, limit: Limit) -> Result<u8> {
    let name = machine.name;
    match machine.wait(limit.map(|(_, deadline)| deadline), Some(RESTARTED))? {
        Waited::Told => Ok(0),
        Waited::Ended => bail!("machine \"{name}\" ended before its workload had started again"),
        Waited::TimedOut => {
            let Some((length, _)) = limit else { bail!(registry::no_answer(name)) };
            log::error!(
                "the workload of machine \"{name}\" has not started again within {length:?}"
            );
            Ok(EXIT_TIMEOUT)
        }
    }
}
