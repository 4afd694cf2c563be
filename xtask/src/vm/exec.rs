//! `chrootvm exec`: one more command in a machine that runs.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::broker::{ERROR, EXEC};
use super::command::CommandOptions;
use super::foreground::Foreground;
use super::options::{parse_duration, parse_name};
use super::outcome::{EXIT_SIGNAL, EXIT_TIMEOUT, EXIT_TROUBLE};
use super::session::{Channels, Session, State};
use super::signals::{Signals, is_end};
use super::terminal::Raw;
use super::{registry, watch};

/// How long the command may take to end after a signal that we were sent.
const GRACE: Duration = Duration::from_secs(2);

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
        let records = self.how.records(&self.command)?;
        let request: Vec<u8> =
            records.iter().flat_map(|record| [record, &[0][..]].concat()).collect();
        let mut signals = Signals::block()?;
        let socket = registry::connect(&self.name)?;
        let (ours, theirs) = Channels::new(0)?.split();
        let fds: Vec<_> = theirs.into_iter().map(|(_, fd)| fd).collect();
        registry::send(&socket, EXEC, &fds)?;
        drop(fds);
        let (answer, _) = registry::receive(&socket)?.context("the machine gives no answer")?;
        let answer = String::from_utf8_lossy(&answer);
        if let Some(problem) = answer.strip_prefix(ERROR) {
            bail!("machine \"{}\": {problem}", self.name);
        }
        let with_terminal = self.how.wants_terminal();
        let terminal = if with_terminal { Some(Raw::prepare()?) } else { None };
        let mut session = Session::start(ours, with_terminal)?;
        session.request(&request);
        let status = self.watch(&mut signals, Foreground::new(session, terminal))?;
        Ok(ExitCode::from(status))
    }

    fn watch(&self, signals: &mut Signals, mut front: Foreground) -> Result<u8> {
        let mut deadline = self.timeout.map(|limit| Instant::now() + limit);
        let mut late = EXIT_TIMEOUT;
        loop {
            let fds = front.session.fds().into_iter().chain([(signals.fd(), false)]);
            watch::sleep(&fds.collect::<Vec<_>>(), deadline)?;
            front.update()?;
            match front.session.state() {
                State::Ended(status) => return Ok(*status),
                State::Failed(status, problem) => {
                    let (status, problem) = (*status, problem.clone());
                    drop(front);
                    eprintln!("error: {problem}");
                    return Ok(status);
                }
                State::Lost => {
                    drop(front);
                    eprintln!("error: machine \"{}\" ended, or its /init did", self.name);
                    return Ok(EXIT_TROUBLE);
                }
                State::Booting | State::Running { .. } => {}
            }
            if let Some(errno) = front.session.write_error() {
                bail!("write the command's output: {}", errno.desc());
            }
            if front.session.was_escaped() {
                return Ok(EXIT_SIGNAL + Signal::SIGHUP as u8);
            }
            for signal in signals.take()? {
                match signal {
                    Signal::SIGWINCH => front.resize(),
                    Signal::SIGCONT => front.resume()?,
                    signal if is_end(signal) => {
                        let status = EXIT_SIGNAL + signal as u8;
                        if !front.is_running() || late == status {
                            return Ok(status);
                        }
                        front.session.signal(signal);
                        (late, deadline) = (status, Some(Instant::now() + GRACE));
                    }
                    _ => {}
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                // The guest hangs up the command when it sees that we are gone.
                drop(front);
                if late == EXIT_TIMEOUT {
                    eprintln!("error: --timeout: the command has not ended in time");
                }
                return Ok(late);
            }
        }
    }
}
