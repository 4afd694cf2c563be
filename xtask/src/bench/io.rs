//! `bench io`: how fast a guest reads a shared directory, by cache mode.
//!
//! The guest reads many small files and one large file, each twice in one run: the
//! second time shows how much the guest has cached. The clock is `/proc/uptime`, which
//! counts hundredths of a second.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Output;
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{self, Subject, output};

/// Measure files per second and MB/s over virtiofs for each cache mode
#[derive(Debug, clap::Args)]
pub struct Io {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    subject: subject::Options,
    /// Cache modes to measure
    #[arg(long, value_name = "MODE", value_delimiter = ',', default_value = "auto,always,never")]
    cache: Vec<String>,
    /// Number of runs of each mode
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Options for chrootvm
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// Number of small files, and size of each in bytes.
const FILES: (u32, usize) = (2000, 4 << 10);
/// Size of the large file in bytes.
const LARGE: usize = 256 << 20;

/// Script of the guest: prints the name of each step and the time at which it begins.
const SCRIPT: &str = "now() { read -r up rest < /proc/uptime; echo $1 $up; }
now files; cat /many/* > /dev/null
now files-again; cat /many/* > /dev/null
now large; cat /large > /dev/null
now large-again; cat /large > /dev/null
now end";

/// Steps of the script: name in the script, name in the report, unit, number of units.
#[rustfmt::skip]
const STEPS: &[(&str, &str, &str, f64)] = &[
    ("files",       "small files",        "files/s", FILES.0 as f64),
    ("files-again", "small files, again", "files/s", FILES.0 as f64),
    ("large",       "large file",         "MB/s",    LARGE as f64 / 1e6),
    ("large-again", "large file, again",  "MB/s",    LARGE as f64 / 1e6),
];

impl Io {
    /// Measures a row for each mode and step.
    pub fn measure(&self) -> Result<Report> {
        let subject = Subject::prepare(&self.subject)?;
        let facts = Facts::gather(&subject)?;
        let root = subject.root()?;
        fill(&root)?;
        let mut rows = Vec::new();
        for mode in &self.cache {
            let runs = (0..self.runs).map(|_| self.run(&subject, &root, mode));
            let runs = runs.collect::<Result<Vec<_>>>()?;
            for (at, (_, what, unit, _)) in STEPS.iter().enumerate() {
                let values = runs.iter().map(|rates| rates[at]).collect();
                rows.push(Row::median(format!("{mode}: {what}"), unit, values));
            }
        }
        Ok(Report { bench: "io", statistic: "median", facts, rows })
    }

    fn run(&self, subject: &Subject, root: &Path, mode: &str) -> Result<Vec<f64>> {
        let mut options = vec![format!("--cache={mode}").into()];
        options.extend(self.options.iter().cloned());
        let command = ["/bin/busybox", "sh", "-c", SCRIPT];
        let (stdout, _) = output(&mut subject.chrootvm(&options, root, &command)?)?;
        let text = String::from_utf8_lossy(&stdout);
        rates(&text).with_context(|| format!("the guest's times are not as expected: {text}"))
    }
}

fn fill(root: &Path) -> Result<()> {
    let many = root.join("many");
    fs::create_dir(&many).context("make a directory of small files")?;
    let (count, size) = FILES;
    for number in 0..count {
        fs::write(many.join(number.to_string()), vec![1; size]).context("write a small file")?;
    }
    fs::write(root.join("large"), vec![1; LARGE]).context("write a large file")
}

/// Computes the units per second of each step from the output of the script.
fn rates(text: &str) -> Option<Vec<f64>> {
    let lines: Vec<(&str, f64)> = text
        .lines()
        .map(|line| line.split_once(' ').and_then(|(name, time)| Some((name, time.parse().ok()?))))
        .collect::<Option<_>>()?;
    let spans: HashMap<_, _> =
        lines.windows(2).map(|pair| (pair[0].0, pair[1].1 - pair[0].1)).collect();
    STEPS.iter().map(|(name, .., units)| Some(units / spans.get(name)?.max(RESOLUTION))).collect()
}

/// Resolution of `/proc/uptime` in seconds.
const RESOLUTION: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_units_by_time() {
        let text = "files 1.00\nfiles-again 3.00\nlarge 3.50\nlarge-again 4.50\nend 4.50\n";
        let rates = rates(text).unwrap();
        assert!((rates[0] - 1000.0).abs() < 1e-6 && (rates[1] - 4000.0).abs() < 1e-6, "{rates:?}");
        assert!((rates[2] - LARGE as f64 / 1e6).abs() < 1e-6, "{rates:?}");
        assert_eq!(super::rates("files 1.0\nend 2.0\n"), None);
        assert_eq!(super::rates("sh: cat: not found\n"), None);
    }
}
