//! `chrootvm exec`: one more command in a machine that runs.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use files::tell::printable;
use machine::plan::options::{parse_duration, parse_name};
use machine::process::signals::{self, Signals, is_end};
use machine::running::broker::{ERROR, EXEC};
use machine::running::outcome::{EXIT_SIGNAL, EXIT_TIMEOUT, EXIT_TROUBLE};
use machine::running::{registry, watch};
use machine::session::channels::Channels;
use machine::session::foreground::Foreground;
use machine::session::terminal::Raw;
use machine::session::{Session, State};
use nix::sys::signal::Signal;

use super::command::CommandOptions;

/// How long the command may take to end after a SIGTERM or SIGHUP that we were sent.
const GRACE: Duration = Duration::from_secs(10);

/// How long a machine may take to answer: it may still boot.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// How long a guest may take to start the command.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Run one more command in a machine that runs
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chrootvm exec [OPTIONS] NAME -- COMMAND [ARG]...",
    after_help = "Exit status: as chrootvm's; 125 also where the machine ends before COMMAND does."
)]
pub struct Exec {
    /// What `chrootvm ps` calls the machine
    #[arg(value_parser = parse_name)]
    name: String,
    /// What to run in the guest, and its arguments
    #[arg(last = true, value_name = "COMMAND", required = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    how: CommandOptions,
    /// End the command after this time: 90, 4s, 5m
    #[arg(long, help_heading = "Command", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Exec {
    /// Runs the command, and returns its exit status.
    pub fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        // A limit beyond the range of the clock is no limit.
        let timeout = self.timeout.and_then(|limit| start.checked_add(limit));
        let with_terminal = self.how.wants_terminal();
        let records = self.how.records(&self.command, with_terminal)?;
        let request: Vec<u8> =
            records.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
        let mut signals = Signals::block()?;
        let socket = registry::find(&self.name)?;
        let (ours, theirs) = Channels::new(0)?.split();
        let fds: Vec<_> = theirs.into_iter().map(|(_, fd)| fd).collect();
        registry::send(&socket, EXEC, &fds)?;
        drop(fds);
        match self.wait_for_answer(&mut signals, &socket, timeout)? {
            Answer::Signal(signal) => return Ok(ExitCode::from(EXIT_SIGNAL + signal as u8)),
            Answer::TimedOut => return Ok(ExitCode::from(say(EXIT_TIMEOUT, TIMED_OUT))),
            Answer::Room => {}
        }
        let terminal = if with_terminal { Some(Raw::prepare()?) } else { None };
        let mut session = Session::start(ours, with_terminal)?;
        session.request(&request);
        let front = Foreground::new(session, terminal);
        let status = self.watch(&mut signals, front, timeout)?;
        Ok(ExitCode::from(status))
    }

    /// Waits until the machine has made room for the command.
    fn wait_for_answer(
        &self,
        signals: &mut Signals,
        socket: &OwnedFd,
        timeout: Option<Instant>,
    ) -> Result<Answer> {
        let limit = Instant::now() + ANSWER_LIMIT;
        let deadline = timeout.map_or(limit, |timeout| timeout.min(limit));
        loop {
            watch::sleep(&[(signals.fd(), false), (socket.as_fd(), false)], Some(deadline))?;
            if let Some(signal) = signals.take()?.into_iter().find(|signal| is_end(*signal)) {
                return Ok(Answer::Signal(signal));
            }
            if let Some((answer, _)) = registry::receive(socket)? {
                let answer = String::from_utf8_lossy(&answer);
                ensure!(!answer.is_empty(), "machine \"{}\" ended", self.name);
                if let Some(problem) = answer.strip_prefix(ERROR) {
                    bail!("machine \"{}\": {}", self.name, printable(problem.as_bytes()));
                }
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
        signals: &mut Signals,
        mut front: Foreground,
        timeout: Option<Instant>,
    ) -> Result<u8> {
        let start = Instant::now();
        let mut passed_on: Option<PassedOn> = None;
        loop {
            let boot = (*front.session.state() == State::Booting).then_some(start + START_LIMIT);
            let grace = passed_on.as_ref().and_then(|passed_on| passed_on.deadline);
            let fds = front.session.fds().into_iter().chain([(signals.fd(), false)]);
            let deadline = [timeout, boot, grace].into_iter().flatten().min();
            watch::sleep(&fds.collect::<Vec<_>>(), deadline)?;
            front.update()?;
            match front.session.state() {
                State::Ended(status) => return Ok(*status),
                State::Failed(status, problem) => {
                    let (status, problem) = (*status, problem.clone());
                    return Ok(leave(front, status, &problem));
                }
                State::Unwritten(errno) => {
                    let problem = format!("write the command's output: {}", errno.desc());
                    return Ok(leave(front, EXIT_TROUBLE, &problem));
                }
                State::Lost => {
                    let problem = format!("machine \"{}\" ended, or its /init did", self.name);
                    return Ok(leave(front, EXIT_TROUBLE, &problem));
                }
                State::Booting | State::Running => {}
            }
            if front.session.was_escaped() {
                return Ok(EXIT_SIGNAL + Signal::SIGHUP as u8);
            }
            for signal in signals.take()? {
                match signal {
                    Signal::SIGWINCH => front.resize(),
                    Signal::SIGCONT => front.resume()?,
                    signal if is_end(signal) => {
                        if !front.is_running() || passed_on.is_some() {
                            return Ok(EXIT_SIGNAL + signal as u8);
                        }
                        front.session.signal(signal);
                        passed_on = Some(PassedOn::now(signal));
                    }
                    _ => {}
                }
            }
            // The guest hangs up the command when it sees that we are gone.
            if let Some(passed_on) = passed_on.as_ref().filter(|it| is_past(it.deadline)) {
                return Ok(EXIT_SIGNAL + passed_on.signal as u8);
            }
            if is_past(timeout) {
                return Ok(leave(front, EXIT_TIMEOUT, TIMED_OUT));
            }
            if is_past(boot) && *front.session.state() == State::Booting {
                return Ok(leave(front, EXIT_TROUBLE, "the guest does not start the command"));
            }
        }
    }
}

/// Outcome of the request for a session.
#[derive(Debug)]
enum Answer {
    /// There is room for the command.
    Room,
    /// A signal ends us.
    Signal(Signal),
    /// `--timeout`
    TimedOut,
}

/// Message when `--timeout` has run out.
const TIMED_OUT: &str = "--timeout: the command has not ended in time";

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// A signal that the command was sent in our stead. A second one ends us.
#[derive(Debug)]
struct PassedOn {
    signal: Signal,
    /// When we end without the command.
    deadline: Option<Instant>,
}

impl PassedOn {
    /// A command may take its time over SIGINT and SIGQUIT, which a person sends:
    /// an editor or a shell does not end by them at all.
    fn now(signal: Signal) -> Self {
        let limited = matches!(signal, Signal::SIGTERM | Signal::SIGHUP);
        Self { signal, deadline: limited.then(|| Instant::now() + GRACE) }
    }
}

/// Gives the terminal back before anything is said on it; the exit status.
fn leave(front: Foreground, status: u8, problem: &str) -> u8 {
    drop(front);
    say(status, problem)
}

/// Prints the reason `problem`, and returns `status`.
fn say(status: u8, problem: &str) -> u8 {
    // The message may block; signals have to end us all the same.
    signals::let_through();
    log::error!("{problem}");
    status
}
