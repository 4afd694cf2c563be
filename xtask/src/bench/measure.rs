//! Time, processor time and peak memory of one command.
//!
//! getrusage(2) gives only the peak of all children together, so a process of its own
//! runs each command: the hidden subcommand `bench-measure`.

use std::ffi::OsString;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use files::tell;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// Name of the hidden subcommand.
pub const SUBCOMMAND: &str = "bench-measure";

/// Run a command and print the time and memory that it took
#[derive(Debug, clap::Args)]
pub struct Measure {
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Time and memory that a command took.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Wall-clock time in milliseconds.
    pub wall: f64,
    /// Processor time in milliseconds, of all processes that were waited for.
    pub cpu: f64,
    /// Peak memory of the largest process in MiB.
    pub memory: f64,
}

impl Measure {
    /// Runs the command, drops its output, and prints one JSON object.
    pub fn run(self) -> Result<()> {
        let (program, arguments) = self.command.split_first().context("no command")?;
        let start = Instant::now();
        let status: ExitStatus = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("run {}", program.display()))?;
        let wall = start.elapsed().as_secs_f64() * 1e3;
        ensure!(status.success(), "{} failed: {status}", program.display());
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
        let time = usage.user_time() + usage.system_time();
        let cpu = time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
        let memory = usage.max_rss() as f64 / 1024.0;
        let usage = json!({ "wall": wall, "cpu": cpu, "memory": memory });
        tell::result(format_args!("{usage}\n"))
    }
}

/// Runs `command` in a process of its own.
///
/// # Errors
/// The command did not exit with 0.
pub fn measure(command: &Command) -> Result<Usage> {
    let mut measure = Command::new(std::env::current_exe().context("find this program")?);
    measure.args([SUBCOMMAND, "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measure.env(name, value),
            None => measure.env_remove(name),
        };
    }
    let output = measure.stderr(Stdio::inherit()).output().context("run bench-measure")?;
    ensure!(output.status.success(), "{command:?} could not be measured");
    let value: Value = serde_json::from_slice(&output.stdout).context("read its result")?;
    let number = |name: &str| value[name].as_f64().with_context(|| format!("no {name}"));
    Ok(Usage { wall: number("wall")?, cpu: number("cpu")?, memory: number("memory")? })
}

/// Measures both commands `runs` times in turn (A B A B), after one run of each that does
/// not count.
pub fn in_turn(
    runs: u16,
    ours: &Command,
    other: Option<&Command>,
) -> Result<Vec<(Usage, Option<Usage>)>> {
    let pair = || Ok((measure(ours)?, other.map(measure).transpose()?));
    pair()?;
    (0..runs).map(|_| pair()).collect()
}
