//! `chrootvm exec`: runs one more command in a running machine.
//!
//! It asks the machine's chrootvm for a session, hands it the descriptors of the streams,
//! and then talks to `/init` as that chrootvm does for its own command.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use machine::plan::exit_status::{EXIT_SIGNAL, EXIT_TIMEOUT, EXIT_TROUBLE};
use machine::process::messages;
use machine::process::signals::{self, SignalReader, is_end};
use machine::process::wait::{self, Awaited};
use machine::running::broker::{self, EXEC};
use machine::running::registry;
use machine::running::time_limit::{self, RunPhase};
use machine::session::channels::Channels;
use machine::session::control::{CommandSession, SessionState};
use machine::session::foreground::Foreground;
use machine::session::terminal::RawTerminal;
use nix::sys::signal::Signal;

use super::command::CommandOptions;
use crate::line::values::{parse_duration, parse_name};
use crate::logger;

/// Longest wait for the answer of a machine, which may still boot.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Longest wait for the start of the command.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Run one more command in a running machine
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chrootvm exec [OPTIONS] NAME [--] COMMAND [ARG]...",
    before_help = "Examples:\n  \
                   chrootvm exec box ps aux   run a command in the machine box\n  \
                   chrootvm exec -t box sh    a shell with a terminal",
    after_long_help = "Exit status: as chrootvm's; 125 also if the machine ends before COMMAND does."
)]
pub struct Exec {
    /// Name of the machine, as `chrootvm ps` lists it
    #[arg(value_parser = parse_name)]
    name: String,
    /// Command to run in the guest, and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    how: CommandOptions,
    /// End COMMAND after this time: 90, 4s, 5m
    #[arg(long, help_heading = "Command", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Exec {
    /// Runs the command, and returns its exit status.
    pub fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        // A limit beyond the range of the clock is no limit.
        let timeout = self.timeout.and_then(|limit| start.checked_add(limit));
        self.how.prepare_stdin()?;
        let terminal = self.how.terminal(false);
        let with_terminal = terminal.is_some();
        let variables = |name: &OsStr| std::env::var_os(name);
        let records = self.how.records(&self.command, terminal, &variables)?;
        let request: Vec<u8> =
            records.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
        let mut signals = SignalReader::block()?;
        let socket = registry::find(&self.name)?;
        let Channels { ours, qemus } = Channels::new(0)?;
        let fds: Vec<_> = qemus.into_iter().map(|(_, fd)| fd).collect();
        messages::send(&socket, EXEC, &fds)?;
        drop(fds);
        match self.wait_for_answer(&mut signals, &socket, timeout)? {
            Answer::Signal(signal) => return Ok(ExitCode::from(EXIT_SIGNAL + signal as u8)),
            Answer::TimedOut => return Ok(ExitCode::from(say(EXIT_TIMEOUT, &self.timed_out()))),
            Answer::Room => {}
        }
        let terminal = if with_terminal { Some(RawTerminal::prepare()?) } else { None };
        let mut session = CommandSession::start(ours, with_terminal)?;
        session.request(&request);
        let front = Foreground::new(session, terminal);
        let status = self.watch(&mut signals, front, timeout)?;
        Ok(ExitCode::from(status))
    }

    /// Message when `--timeout` has run out.
    fn timed_out(&self) -> String {
        let subject = time_limit::subject(&self.command);
        time_limit::problem(&subject, self.timeout.unwrap_or_default(), RunPhase::Running)
    }

    /// Waits until the machine has opened a session for the command.
    fn wait_for_answer(
        &self,
        signals: &mut SignalReader,
        socket: &OwnedFd,
        timeout: Option<Instant>,
    ) -> Result<Answer> {
        let limit = Instant::now() + ANSWER_LIMIT;
        let deadline = timeout.map_or(limit, |timeout| timeout.min(limit));
        loop {
            let fds = [signals.fd(), socket.as_fd()].map(Awaited::readable);
            wait::sleep(&fds, Some(deadline))?;
            if let Some(signal) = signals.take()?.into_iter().find(|signal| is_end(*signal)) {
                return Ok(Answer::Signal(signal));
            }
            if let Some(message) = messages::receive(socket)? {
                ensure!(!message.text.is_empty(), "machine \"{}\" ended", self.name);
                broker::accept(&self.name, &message.text)?;
                return Ok(Answer::Room);
            }
            if is_past(timeout) {
                return Ok(Answer::TimedOut);
            }
            ensure!(Instant::now() < deadline, registry::no_answer(&self.name));
        }
    }

    fn watch(
        &self,
        signals: &mut SignalReader,
        mut front: Foreground,
        timeout: Option<Instant>,
    ) -> Result<u8> {
        let start = Instant::now();
        loop {
            let boot =
                (*front.session.state() == SessionState::Booting).then_some(start + START_LIMIT);
            let fds = front.session.awaited().into_iter().chain([Awaited::readable(signals.fd())]);
            let deadline = [timeout, boot, front.deadline()].into_iter().flatten().min();
            wait::sleep(&fds.collect::<Vec<_>>(), deadline)?;
            front.update()?;
            match front.session.state() {
                SessionState::Ended(status) => {
                    let (status, advice) = (*status, front.session.shortage().advice(None));
                    drop(front);
                    signals::let_through(); // as in `say`
                    logger::warn_all(advice);
                    return Ok(status);
                }
                SessionState::Failed(status, problem) => {
                    let (status, problem) = (*status, problem.clone());
                    return Ok(leave(front, status, &problem));
                }
                SessionState::Unwritten(errno) => {
                    let problem = format!("write the command's output: {}", errno.desc());
                    return Ok(leave(front, EXIT_TROUBLE, &problem));
                }
                SessionState::Lost => {
                    let problem = format!("machine \"{}\" ended before the command did", self.name);
                    return Ok(leave(front, EXIT_TROUBLE, &problem));
                }
                SessionState::Booting | SessionState::Running => {}
            }
            if front.session.was_escaped() {
                return Ok(EXIT_SIGNAL + Signal::SIGHUP as u8);
            }
            for signal in signals.take()? {
                if let Some(signal) = front.handle(signal)? {
                    return Ok(EXIT_SIGNAL + signal as u8);
                }
            }
            // When this program has ended, the guest sends the command SIGHUP.
            if let Some(signal) = front.expired() {
                return Ok(EXIT_SIGNAL + signal as u8);
            }
            if is_past(timeout) {
                return Ok(leave(front, EXIT_TIMEOUT, &self.timed_out()));
            }
            if is_past(boot) && *front.session.state() == SessionState::Booting {
                return Ok(leave(front, EXIT_TROUBLE, "the guest does not start the command"));
            }
        }
    }
}

/// Outcome of the request for a session.
#[derive(Debug)]
enum Answer {
    /// The session is open.
    Room,
    /// A signal asks this program to end.
    Signal(Signal),
    /// `--timeout`
    TimedOut,
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// Restores the terminal, then reports `problem`. Returns `status`.
fn leave(front: Foreground, status: u8, problem: &str) -> u8 {
    drop(front);
    say(status, problem)
}

/// Reports `problem`, and returns `status`.
fn say(status: u8, problem: &str) -> u8 {
    // The message may block. Signals must still end this program.
    signals::let_through();
    log::error!("{problem}");
    status
}
