//! Kernels and commands, and what the run of a command has to report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A command of the matrix, and its end.
#[derive(Debug)]
pub(super) struct MatrixCommand {
    /// The line for sh(1).
    pub(super) line: &'static str,
    /// Exit status of chrootvm.
    pub(super) status: u64,
    /// Ending in a report.
    ending: &'static str,
}

/// Commands of all tasks.
#[rustfmt::skip]
pub(super) const COMMANDS: [MatrixCommand; 10] = [
    MatrixCommand { line: "true",                           status: 0,   ending: "exited" },
    MatrixCommand { line: "uname -r",                       status: 0,   ending: "exited" },
    MatrixCommand { line: "exit 1",                         status: 1,   ending: "exited" },
    MatrixCommand { line: "echo no >&2; exit 42",           status: 42,  ending: "exited" },
    MatrixCommand { line: "exit 255",                       status: 255, ending: "exited" },
    MatrixCommand { line: "no-such-program",                status: 127, ending: "exited" },
    MatrixCommand { line: "kill -KILL $$",                  status: 137, ending: "exited" },
    MatrixCommand { line: "kill -TERM $$",                  status: 143, ending: "exited" },
    MatrixCommand { line: "grep -q virtiofs /proc/mounts",  status: 0,   ending: "exited" },
    MatrixCommand { line: "poweroff -f; sleep 60",          status: 125, ending: "failed" },
];

/// The command of the task with this number, counted from 0: tasks of the same kernel follow each
/// other.
pub(super) fn command_of(task: usize) -> &'static MatrixCommand {
    &COMMANDS[task % COMMANDS.len()]
}

/// Reads the report in `file`.
///
/// # Errors
/// There is none, or it is not one line of JSON.
pub(super) fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(text.lines().count() == 1, "{}: more than one line", file.display());
    serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))
}

/// Compares the `report` of a task with what it has to be.
///
/// # Errors
/// They differ.
pub(super) fn check(task: usize, kernel: &str, report: &Value) -> Result<()> {
    let MatrixCommand { line, status, ending } = command_of(task);
    let words = serde_json::json!(["sh", "-c", line]);
    for (member, found, expected) in [
        ("status", &report["status"], &Value::from(*status)),
        ("ending", &report["ending"], &Value::from(*ending)),
        ("command", &report["command"], &words),
        ("signal", &report["signal"], &Value::Null),
    ] {
        ensure!(found == expected, "task {task} ({line}): {member} is {found}: {report}");
    }
    let path = report["kernel"]["path"].as_str().unwrap_or_default();
    ensure!(kernel.split(' ').any(|word| word == path), "task {task}: kernel {path}, not {kernel}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_end_is_noticed() {
        let good = serde_json::json!({
            "status": 1, "ending": "exited", "command": ["sh", "-c", "exit 1"], "signal": null,
            "kernel": {"path": "/k"},
        });
        let kernel = "--kernel /k --modules /m";
        assert_eq!(check(12, kernel, &good).map_err(|error| error.to_string()), Ok(()));
        assert!(check(3, kernel, &good).is_err());
        assert!(check(2, "--kernel /other", &good).is_err());
        for (member, bad) in [("status", 2.into()), ("signal", 15.into()), ("ending", Value::Null)]
        {
            let mut report = good.clone();
            report[member] = bad;
            let error = check(2, kernel, &report).unwrap_err().to_string();
            assert!(error.contains(member), "{error}");
        }
    }
}
