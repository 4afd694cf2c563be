//! `chrootvm stop`: ends running machines.
//!
//! It asks the chrootvm of each machine to end as if it got SIGTERM, and waits for the end of
//! the connection ([`machine::running::broker`]). A second request ends a machine at once, as
//! a second signal does. If the chrootvm does not react to that either, it is killed; its
//! children end with it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use machine::plan::exit_status::EXIT_TIMEOUT;
use machine::running::broker::STOP;
use machine::running::registry;
use nix::sys::signal::{Signal, kill};

use crate::line::values::{parse_duration, parse_name};
use crate::named_machine::{Limit, NamedMachine, Waited, ask_all};

/// Time for a machine to end after the second request: QEMU gets 2 s after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Time for the kernel to end a chrootvm that was killed.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// End running machines, as SIGTERM to their chrootvm does
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm stop box\n  \
                   chrootvm stop --timeout 20s box other",
    override_usage = "chrootvm stop [OPTIONS] NAME...",
    after_help = "Exit status: 0 the machines have ended, 124 a machine had to be ended by \
                  --timeout, 125 a machine could not be ended."
)]
pub struct Stop {
    /// Names of the machines, as `chrootvm ps` lists them
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    names: Vec<String>,
    /// End a machine at once if it has not ended after this time: 90, 4s, 5m
    /// [default: wait until it has ended]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Stop {
    /// Ends the machines, and returns the exit status. A machine that cannot be ended is
    /// reported, and does not keep the others from being ended.
    pub fn run(self) -> Result<ExitCode> {
        Ok(ask_all(&self.names, STOP, self.timeout, end))
    }
}

/// Waits until `machine`, which was asked to end, has ended. After `limit`, ends it at once.
/// Returns the exit status.
fn end(machine: &NamedMachine<'_>, limit: Limit) -> Result<u8> {
    let NamedMachine { name, pid, .. } = machine;
    let wait = |deadline| machine.wait(deadline, None);
    if wait(limit.map(|(_, deadline)| deadline))? == Waited::Ended {
        return Ok(0);
    }
    let Some((length, _)) = limit else {
        let problem = registry::no_answer(name);
        bail!("{problem}; to kill it: chrootvm stop --timeout 1s {name}");
    };
    log::warn!("machine \"{name}\" has not ended within {length:?}; it is ended at once");
    machine.ask(STOP);
    if wait(Some(Instant::now() + END_LIMIT))? == Waited::TimedOut {
        // The connection is open, so the process has not ended and still has this id.
        kill(*pid, Signal::SIGKILL)
            .with_context(|| format!("kill process {pid} of machine \"{name}\""))?;
        let waited = wait(Some(Instant::now() + KILL_LIMIT))?;
        ensure!(
            waited == Waited::Ended,
            "process {pid} of machine \"{name}\" was killed, but has not ended: it may wait for a \
             device or a network file system"
        );
    }
    Ok(EXIT_TIMEOUT)
}
