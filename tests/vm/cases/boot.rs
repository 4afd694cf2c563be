//! What a boot left: what it is held against, and what a failure shows of it.

use anyhow::Result;
use tempfile::TempDir;

/// Lines of the console that a failure shows.
const TAIL: usize = 40;

/// What a boot left.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) status: i32,
    pub(crate) console: String,
    pub(crate) messages: String,
    /// What repeats it.
    pub(crate) command: String,
    /// The root's, which is kept after a failure.
    pub(crate) dir: Option<TempDir>,
}

impl Boot {
    /// The guest powered off, its kernel did not panic, and the console shows
    /// each of `lines` as a whole line.
    pub(crate) fn shows(self, lines: &[&str]) -> Result<()> {
        self.ends_with(0, lines)?.lacks("Kernel panic")
    }

    /// chrootvm exited with `status`, and the console or standard error shows
    /// each of `lines` as a whole line, time stamps aside. Of a line that ends in
    /// `…` only the start is known: the kernel's own words follow.
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

    /// Everything that helps to find out why.
    pub(crate) fn failure(mut self, why: &str) -> anyhow::Error {
        let kept = self.dir.take().map(TempDir::keep).unwrap_or_default();
        let lines: Vec<_> = self.console.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        anyhow::anyhow!(
            "{why}\n--- console (end)\n{tail}\n--- stderr\n{}\n--- exit status {}; repeat with\n{}\n--- kept: {}",
            self.messages,
            self.status,
            self.command,
            kept.display()
        )
    }
}

/// A line without the kernel's `[    1.234567] `.
fn without_timestamp(line: &str) -> &str {
    let after = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match after {
        Some((time, text)) if time.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}
