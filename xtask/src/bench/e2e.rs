//! `bench e2e`: the wall-clock time of a whole run, compared with another command.
//!
//! Times on a busy host differ from minute to minute. So the two commands run in turn,
//! and the ratio within each pair is the result.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Output;
use super::measure::{Usage, in_turn};
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{MachineOptions, Subject};

/// Time `chrootvm ROOT -- true`, and compare it with another command
#[derive(Debug, clap::Args)]
pub struct E2e {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    machine: MachineOptions,
    #[command(flatten)]
    turns: Turns,
}

/// Commands that run in turn
#[derive(Debug, clap::Args)]
pub struct Turns {
    /// The other command, for sh -c, with $ROOT, $KERNEL, $MODULES and $INIT
    #[arg(long, value_name = "COMMAND")]
    vs: Option<OsString>,
    /// Number of runs of each command
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
}

impl Turns {
    /// The other command, if there is one.
    #[must_use]
    pub fn other(&self, subject: &Subject, root: &Path) -> Option<Command> {
        self.vs.as_ref().map(|text| subject.shell(text, root))
    }
}

impl E2e {
    /// Measures times and ratios.
    pub fn measure(&self) -> Result<Report> {
        let (subject, root) = self.machine.prepare()?;
        let facts = Facts::gather(&subject)?;
        let ours = subject.chrootvm(&self.machine.options, &root, &["true"])?;
        let other = self.turns.other(&subject, &root);
        let pairs = in_turn(self.turns.runs, &ours, other.as_ref())?;
        Ok(Report {
            bench: "e2e",
            statistic: "median",
            facts,
            rows: rows(&pairs, "chrootvm", &[WALL]),
        })
    }
}

/// One number of [`Usage`]: its name, its unit, and a function that gets it.
pub type Column = (&'static str, &'static str, fn(&Usage) -> f64);

/// Wall-clock time.
pub const WALL: Column = ("time", "ms", |usage| usage.wall);

/// Makes a row for each number of each command, and one for the ratio of the two.
pub fn rows(pairs: &[(Usage, Option<Usage>)], name: &str, columns: &[Column]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, unit, get) in columns {
        let ours: Vec<_> = pairs.iter().map(|(ours, _)| get(ours)).collect();
        rows.push(Row::median(format!("{what}, {name}"), unit, ours.clone()));
        let others: Vec<_> =
            pairs.iter().filter_map(|(_, other)| other.as_ref().map(get)).collect();
        if others.is_empty() {
            continue;
        }
        let ratio = ratio(format!("{what}, ratio"), &ours, &others);
        rows.push(Row::median(format!("{what}, the other"), unit, others));
        rows.push(ratio);
    }
    rows
}

/// Makes a row of the ratios of `ours` and `others`, which ran in turn.
#[must_use]
pub fn ratio(name: String, ours: &[f64], others: &[f64]) -> Row {
    let ratios = ours.iter().zip(others).map(|(ours, other)| ours / other).collect();
    Row::median(name, "", ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let usage = |wall| Usage { wall, cpu: 0.0, memory: 0.0 };
        let pairs = [(1.0, 2.0), (10.0, 40.0), (3.0, 6.0)]
            .map(|(ours, other)| (usage(ours), Some(usage(other))));
        let rows = rows(&pairs, "x", &[WALL]);
        assert!((rows[2].value - 0.5).abs() < 1e-9 && (rows[2].min - 0.25).abs() < 1e-9);
        assert!((rows[0].value - 3.0).abs() < 1e-9);
        assert_eq!(super::rows(&[(usage(1.0), None)], "x", &[WALL]).len(), 1);
    }
}
