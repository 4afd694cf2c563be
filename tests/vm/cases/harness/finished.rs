//! A machine that has ended: checks of its console and status, and the report of a failure.

use anyhow::Result;
use tempfile::TempDir;
use virtinitrd_vm_tests::console::without_timestamp;

/// Number of console lines that a failure shows.
const TAIL: usize = 40;

/// Reports why a test failed, with the end of the console, standard error, and the command
/// that repeats the boot.
pub(crate) fn report(why: &str, console: &str, messages: &str, command: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    format!("{why}\n--- console (end)\n{tail}\n--- stderr\n{messages}\n--- repeat with\n{command}")
}

/// A machine that has ended.
#[derive(Debug)]
pub(crate) struct FinishedMachine {
    pub(crate) status: i32,
    pub(crate) console: String,
    /// Standard error of `chrootvm`.
    pub(crate) messages: String,
    /// The command that repeats the boot.
    pub(crate) command: String,
    /// The directory with the root, which a failure keeps.
    pub(crate) directory: Option<TempDir>,
}

impl FinishedMachine {
    /// The guest powered off, its kernel did not panic, and the console shows each of
    /// `lines` as a whole line.
    pub(crate) fn shows(self, lines: &[&str]) -> Result<()> {
        self.ends_with(0, lines)?.lacks("Kernel panic")
    }

    /// `chrootvm` exited with `status`, and the console or standard error shows each of
    /// `lines` as a whole line without its time stamp. If one of `lines` ends in `…`, its
    /// beginning is enough.
    pub(crate) fn ends_with(self, status: i32, lines: &[&str]) -> Result<Self> {
        let all = format!("{}\n{}", self.console, self.messages);
        let shown: Vec<&str> = all.lines().map(without_timestamp).collect();
        let is_shown = |line: &&&str| match line.strip_suffix('…') {
            Some(start) => shown.iter().any(|shown| shown.starts_with(start)),
            None => shown.contains(*line),
        };
        if let Some(missing) = lines.iter().find(|line| !is_shown(line)) {
            return Err(self.failure(&format!("the line \"{missing}\" is missing")));
        }
        if self.status != status {
            return Err(self.failure(&format!("the exit status is not {status}")));
        }
        Ok(self)
    }

    /// The console never showed `text`.
    pub(crate) fn lacks(self, text: &str) -> Result<()> {
        match self.console.contains(text) {
            true => Err(self.failure(&format!("the console shows \"{text}\""))),
            false => Ok(()),
        }
    }

    /// An error with everything that helps to find the cause.
    pub(crate) fn failure(mut self, why: &str) -> anyhow::Error {
        let kept = self.directory.take().map(TempDir::keep).unwrap_or_default();
        let report = report(why, &self.console, &self.messages, &self.command);
        anyhow::anyhow!("{report}\n--- exit status {}; kept: {}", self.status, kept.display())
    }
}
