//! GNU parallel: `docs/examples/fleets/matrix.sh`, with reports as JUnit's XML.
//!
//! Format: the option `--joblog` of parallel(1): a heading, then a line for each job; the first
//! column is its number, and the seventh its exit status.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::matrix::{COMMANDS, MatrixCommand, command_of};
use super::site::Site;

/// Longest time of all runs, as timeout(1) takes it.
const LIMIT: &str = "20m";

/// Runs the script for the first kernel.
///
/// # Errors
/// A run has another end than it should, or something is left.
pub(super) fn run(site: &Site) -> Result<String> {
    site.forget_results()?;
    let kernel = site.kernels.first().context("no kernel")?;
    fs::write(site.path("kernels"), format!("{kernel}\n"))?;
    let script = site.tree.join("docs/examples/fleets/matrix.sh");
    let status = site.command("timeout").args([LIMIT, "sh"]).arg(script).status()?;
    let failed = COMMANDS.iter().filter(|command| command.status != 0).count();
    // The status of parallel is the number of jobs that have failed.
    ensure!(status.code() == i32::try_from(failed).ok(), "parallel ended with {status}");
    let log = fs::read_to_string(site.path("results/joblog")).context("read the joblog")?;
    let statuses = statuses(&log)?;
    ensure!(statuses.len() == COMMANDS.len(), "{} jobs: {log}", statuses.len());
    for (number, status) in statuses {
        let task = number.checked_sub(1).context("jobs are counted from 1")?;
        let command = command_of(task);
        ensure!(status == command.status, "{}: status {status}", command.line);
        let name = format!("results/{number}.xml");
        let report = fs::read_to_string(site.path(&name)).context(name)?;
        check(command, &report)?;
    }
    site.check_nothing_left(OURS)?;
    let version = site.command("parallel").arg("--version").output()?.stdout;
    let version = String::from_utf8_lossy(&version).lines().next().unwrap_or_default().to_owned();
    Ok(format!("{version}: {} machines, JUnit's XML, statuses as expected", COMMANDS.len()))
}

/// Names of sockets of machines that have the process id as their name are not searched.
const OURS: &str = "virtinitrd-fleets-";

/// Number and exit status of each job.
fn statuses(log: &str) -> Result<Vec<(usize, u64)>> {
    let parse = |line: &str| -> Result<_> {
        let columns: Vec<_> = line.split('\t').collect();
        let [number, _, _, _, _, _, status, ..] = columns[..] else {
            anyhow::bail!("a line of the joblog is short: {line}");
        };
        Ok((number.parse().context("number")?, status.parse().context("status")?))
    };
    log.lines().skip(1).map(parse).collect()
}

/// Compares a report with what that of `command` has to be.
fn check(command: &MatrixCommand, report: &str) -> Result<()> {
    let element = match command.status {
        0 => "failures=\"0\" errors=\"0\"".into(),
        125 => "<error type=\"failed\" message=\"".into(),
        status => format!("<failure type=\"exited\" message=\"exit status {status}\"/>"),
    };
    ensure!(report.contains(&element), "{}: no {element} in {report}", command.line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joblog_has_numbers_and_statuses() {
        let log = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n\
                   2\t:\t1.5\t2.0\t0\t0\t42\t0\tchrootvm x\n1\t:\t1.5\t2.0\t0\t0\t0\t0\tx\n";
        assert_eq!(statuses(log).unwrap(), [(2, 42), (1, 0)]);
        assert!(statuses("Seq\n1\t:\n").is_err());
    }
}
