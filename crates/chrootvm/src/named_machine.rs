//! A running machine that a user names: `chrootvm stop` and `chrootvm restart` send its chrootvm a
//! request, and wait for what follows ([`machine::running::broker`]).

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use machine::plan::exit_status::EXIT_TROUBLE;
use machine::process::messages::{self, NO_FDS};
use machine::process::wait::{self, Awaited};
use machine::running::{broker, registry};
use nix::unistd::Pid;

/// Longest wait for the answer of a machine without `--timeout`. chrootvm answers at once,
/// unless it is stopped or the host is very busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A connection to the chrootvm of a machine.
#[derive(Debug)]
pub(crate) struct NamedMachine<'a> {
    pub(crate) name: &'a str,
    pub(crate) pid: Pid,
    socket: OwnedFd,
}

/// Result of waiting for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The connection has ended, and with it the machine.
    Ended,
    /// The machine has sent the expected message.
    Told,
    /// The time is over.
    TimedOut,
}

/// A time limit and the end of it; `None` for no limit.
pub(crate) type Limit = Option<(Duration, Instant)>;

/// Sends `request` to each of the machines `names`, and lets `finish` wait for what follows, until
/// `timeout` has passed. Returns the greatest exit status: a machine that fails is reported, and
/// does not keep the others from their request.
pub(crate) fn ask_all(
    names: &[String],
    request: &[u8],
    timeout: Option<Duration>,
    finish: fn(&NamedMachine<'_>, Limit) -> Result<u8>,
) -> ExitCode {
    let mut status = 0;
    let mut machines: Vec<NamedMachine<'_>> = Vec::new();
    for name in names {
        match NamedMachine::find(name) {
            // A machine with two names on the command line gets one request: a second request to
            // stop would end it at once.
            Ok(machine) if machines.iter().any(|known| known.pid == machine.pid) => {}
            Ok(machine) => machines.push(machine),
            Err(error) => status = status.max(failed(&error)),
        }
    }
    for machine in &machines {
        machine.ask(request);
    }
    // A limit beyond the range of the clock is no limit.
    let limit = timeout.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
    for machine in &machines {
        status = status.max(finish(machine, limit).unwrap_or_else(|error| failed(&error)));
    }
    ExitCode::from(status)
}

/// Reports `error`, and returns the exit status for it.
fn failed(error: &anyhow::Error) -> u8 {
    log::error!("{error:#}");
    EXIT_TROUBLE
}

impl<'a> NamedMachine<'a> {
    fn find(name: &'a str) -> Result<Self> {
        let socket = registry::find(name)?;
        // The id is 0 if the process is in a PID namespace that is not below ours.
        let pid = registry::peer_pid(&socket).filter(|pid| *pid > 0).map(Pid::from_raw);
        let pid = pid.with_context(|| format!("find the process of machine \"{name}\""))?;
        Ok(Self { name, pid, socket })
    }

    /// Sends `request` to the machine. An error is left to [`NamedMachine::wait`], which finds out
    /// whether the machine has just ended, or does not answer.
    pub(crate) fn ask(&self, request: &[u8]) {
        let _ = messages::send(&self.socket, request, NO_FDS); // see above
    }

    /// Waits until the machine, which was asked before, has ended or has sent the message
    /// `expected`, at most until `deadline`. Without a deadline, the machine must answer within
    /// [`ANSWER_LIMIT`], and may then take any time.
    pub(crate) fn wait(
        &self,
        deadline: Option<Instant>,
        expected: Option<&[u8]>,
    ) -> Result<Waited> {
        let answer_limit = Instant::now() + ANSWER_LIMIT;
        let mut limit = deadline.or(Some(answer_limit));
        loop {
            wait::sleep(&[Awaited::readable(self.socket.as_fd())], limit)?;
            while let Some(message) = messages::receive(&self.socket)? {
                if message.text.is_empty() {
                    return Ok(Waited::Ended);
                }
                if expected == Some(&message.text) {
                    return Ok(Waited::Told);
                }
                broker::accept(self.name, &message.text)?;
                limit = deadline;
            }
            if limit.is_some_and(|limit| limit <= Instant::now()) {
                return Ok(Waited::TimedOut);
            }
        }
    }
}
