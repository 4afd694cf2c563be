//! `chrootvm stop`: ends running machines.
//!
//! It asks the chrootvm of each machine to end as if it got SIGTERM, and waits for the end of
//! the connection ([`machine::running::broker`]). A second request ends a machine at once, as
//! a second signal does. If the chrootvm does not react to that either, it is killed; its
//! children end with it.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use files::tell::printable;
use machine::plan::exit_status::{EXIT_TIMEOUT, EXIT_TROUBLE};
use machine::process::messages::{self, NO_FDS};
use machine::process::wait::{self, Awaited};
use machine::running::broker::{ERROR, STOP};
use machine::running::registry;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::line::values::{parse_duration, parse_name};

/// Longest wait for the answer of a machine without `--timeout`. chrootvm answers at once,
/// unless it is stopped or the host is very busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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
        let mut status = 0;
        let mut machines: Vec<Machine> = Vec::new();
        for name in &self.names {
            match Machine::find(name) {
                // A machine with two names on the command line gets one request, because a
                // second one would end it at once.
                Ok(machine) if machines.iter().any(|known| known.pid == machine.pid) => {}
                Ok(machine) => machines.push(machine),
                Err(error) => status = status.max(failed(&error)),
            }
        }
        machines.iter().for_each(Machine::ask);
        // A limit beyond the range of the clock is no limit.
        let limit =
            self.timeout.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        for machine in &machines {
            status = status.max(machine.end(limit).unwrap_or_else(|error| failed(&error)));
        }
        Ok(ExitCode::from(status))
    }
}

/// Reports `error`, and returns the exit status for it.
fn failed(error: &anyhow::Error) -> u8 {
    log::error!("{error:#}");
    EXIT_TROUBLE
}

/// A connection to the chrootvm of a machine.
#[derive(Debug)]
struct Machine<'a> {
    name: &'a str,
    pid: Pid,
    socket: OwnedFd,
}

/// Result of waiting for the end of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    /// The connection has ended, and with it the machine.
    Ended,
    /// The time is over.
    TimedOut,
}

impl<'a> Machine<'a> {
    fn find(name: &'a str) -> Result<Self> {
        let socket = registry::find(name)?;
        // The id is 0 if the process is in a PID namespace that is not below ours.
        let pid = registry::peer_pid(&socket).filter(|pid| *pid > 0).map(Pid::from_raw);
        let pid = pid.with_context(|| format!("find the process of machine \"{name}\""))?;
        Ok(Self { name, pid, socket })
    }

    /// Asks the machine to end. An error is left to [`Machine::wait`], which finds out whether
    /// the machine has just ended, or does not answer.
    fn ask(&self) {
        let _ = messages::send(&self.socket, STOP, NO_FDS); // see above
    }

    /// Waits until the machine, which was asked to end, has ended. After `limit`, ends it at
    /// once. Returns the exit status.
    fn end(&self, limit: Option<(Duration, Instant)>) -> Result<u8> {
        let Self { name, pid, .. } = self;
        if self.wait(limit.map(|(_, deadline)| deadline))? == Waited::Ended {
            return Ok(0);
        }
        let Some((length, _)) = limit else {
            let problem = registry::no_answer(name);
            bail!("{problem}; to kill it: chrootvm stop --timeout 1s {name}");
        };
        log::warn!("machine \"{name}\" has not ended within {length:?}; it is ended at once");
        self.ask();
        if self.wait(Some(Instant::now() + END_LIMIT))? == Waited::TimedOut {
            // The connection is open, so the process has not ended and still has this id.
            kill(*pid, Signal::SIGKILL)
                .with_context(|| format!("kill process {pid} of machine \"{name}\""))?;
            let waited = self.wait(Some(Instant::now() + KILL_LIMIT))?;
            ensure!(
                waited == Waited::Ended,
                "process {pid} of machine \"{name}\" was killed, but has not ended: it may wait \
                 for a device or a network file system"
            );
        }
        Ok(EXIT_TIMEOUT)
    }

    /// Waits until the machine has ended, at most until `deadline`. Without a deadline, the
    /// machine must answer within [`ANSWER_LIMIT`], and may then take any time.
    fn wait(&self, deadline: Option<Instant>) -> Result<Waited> {
        let answer_limit = Instant::now() + ANSWER_LIMIT;
        let mut limit = deadline.or(Some(answer_limit));
        loop {
            wait::sleep(&[Awaited::readable(self.socket.as_fd())], limit)?;
            if let Some(message) = messages::receive(&self.socket)? {
                let answer = String::from_utf8_lossy(&message.text);
                if answer.is_empty() {
                    return Ok(Waited::Ended);
                }
                if let Some(problem) = answer.strip_prefix(ERROR) {
                    bail!("machine \"{}\": {}", self.name, printable(problem.as_bytes()));
                }
                limit = deadline;
            }
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                return Ok(Waited::TimedOut);
            }
        }
    }
}
