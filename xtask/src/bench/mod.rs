//! `cargo xtask bench`: measurements of speed and size.
//!
//! Each benchmark measures the built programs from outside, as a user runs them, and
//! gives one [`Report`]: a Markdown table on standard output, with `--json` a file for
//! later comparisons, and with `--svg` a picture. Guest instructions and sizes repeat;
//! for wall-clock times, only ratios within one run mean something.

// Nanoseconds and bytes are far below 2^53, so `f64` holds them exactly.
#![allow(clippy::cast_precision_loss)]

pub mod boot;
pub mod e2e;
pub mod io;
pub mod measure;
pub mod oci;
pub mod pack;
pub mod payload;
pub mod recipe;
pub mod report;
pub mod roots;
pub mod size;
pub mod subject;
pub mod timing_line;
pub mod warm;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use files::{output, tell};

use self::report::{Report, judge, svg};
use crate::workspace;

/// Measure boots, whole runs, packing and images
#[derive(Debug, clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Boot(boot::Boot),
    E2e(e2e::E2e),
    Oci(oci::Oci),
    Pack(pack::Pack),
    Recipe(recipe::Recipe),
    Size(size::Size),
    Io(io::Io),
    Roots(roots::Roots),
    Warm(warm::Warm),
}

/// Options for the output of the numbers, and for their comparison.
#[derive(Debug, clap::Args)]
pub struct Output {
    /// Write the numbers to FILE as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the numbers as bars into FILE
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fail where a number differs by more than 1 % from those in FILE
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Fail where a number is more than 2 % over its budget in FILE
    #[arg(long, value_name = "FILE")]
    budget: Option<PathBuf>,
}

impl Bench {
    /// Measures, prints, and compares the numbers as the options say.
    pub fn run(self) -> Result<()> {
        let output = self.what.output();
        // Read these files first: an error after minutes of measuring would waste them.
        let standards = output.standards()?;
        let report = self.what.measure()?;
        output.publish(&report)?;
        standards.judge(&report)
    }
}

impl What {
    fn output(&self) -> &Output {
        match self {
            What::Boot(boot) => &boot.output,
            What::E2e(e2e) => &e2e.output,
            What::Oci(oci) => &oci.output,
            What::Pack(pack) => &pack.output,
            What::Recipe(recipe) => &recipe.output,
            What::Size(size) => &size.output,
            What::Io(io) => &io.output,
            What::Roots(roots) => &roots.output,
            What::Warm(warm) => &warm.output,
        }
    }

    fn measure(&self) -> Result<Report> {
        match self {
            What::Boot(boot) => boot.measure(),
            What::E2e(e2e) => e2e.measure(),
            What::Oci(oci) => oci.measure(),
            What::Pack(pack) => pack.measure(),
            What::Recipe(recipe) => recipe.measure(),
            What::Size(size) => size.measure(),
            What::Io(io) => io.measure(),
            What::Roots(roots) => roots.measure(),
            What::Warm(warm) => warm.measure(),
        }
    }
}

/// Earlier report and budget to compare with, each with the file that it is from.
struct Standards<'a> {
    base: Option<(&'a Path, serde_json::Value)>,
    budget: Option<(&'a Path, toml::Table)>,
}

impl Output {
    fn standards(&self) -> Result<Standards<'_>> {
        let base = read(self.compare.as_deref(), "JSON", |text| serde_json::from_str(text))?;
        let budget = read(self.budget.as_deref(), "TOML", str::parse)?;
        Ok(Standards { base, budget })
    }

    fn publish(&self, report: &Report) -> Result<()> {
        tell::result(report.markdown())?;
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report.json())?;
            output::write(file, format!("{text}\n").as_bytes())?;
        }
        if let Some(file) = &self.svg {
            output::write(file, svg::draw(report).as_bytes())?;
        }
        Ok(())
    }
}

impl Standards<'_> {
    fn judge(&self, report: &Report) -> Result<()> {
        let mut faults = Vec::new();
        if let Some((file, base)) = &self.base {
            faults.extend(judge::compare(report, base).with_context(|| in_file(file))?);
        }
        if let Some((file, budget)) = &self.budget {
            faults.extend(judge::budget(report, budget).with_context(|| in_file(file))?);
        }
        ensure!(faults.is_empty(), "{}", faults.join("\n  "));
        Ok(())
    }
}

/// Reads and parses `file`, if one is given; `format` is its name in errors.
fn read<'a, T, E>(
    file: Option<&'a Path>,
    format: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<(&'a Path, T)>>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("read {}", file.display()))?;
    let value = parse(&text).with_context(|| format!("{} is not {format}", file.display()))?;
    Ok(Some((file, value)))
}

fn in_file(file: &Path) -> String {
    format!("judge by {}", file.display())
}

/// Makes a directory for the files of a benchmark; it is removed at the end.
fn scratch() -> Result<tempfile::TempDir> {
    let dir = workspace::root()?.join("target");
    tempfile::Builder::new().prefix("bench-").tempdir_in(&dir).context("make a directory in target")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_reported_before_the_measurement() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (json, toml) = (file("base", "{}"), file("budget", "[boot]\ninit = 1\n"));
        for (compare, budget, expected) in [
            (Some(&json), Some(&toml), None),
            (None, None, None),
            (Some(&toml), None, Some("budget is not JSON")),
            (None, Some(&json), Some("base is not TOML")),
            (Some(&dir.path().join("missing")), None, Some("missing")),
        ] {
            let output = Output {
                json: None,
                svg: None,
                compare: compare.cloned(),
                budget: budget.cloned(),
            };
            let error = output.standards().err().map(|error| format!("{error:#}"));
            match (&error, expected) {
                (Some(error), Some(part)) => assert!(error.contains(part), "{error}"),
                (error, expected) => assert_eq!(error.as_deref(), expected),
            }
        }
    }
}
