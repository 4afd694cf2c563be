//! `cargo xtask bench`: how fast, how large, against what.
//!
//! Each benchmark measures the built product from outside, as a user runs it,
//! and gives one [`Report`]: a Markdown table on standard output, and with
//! `--json` a file that a later run can be compared with. Guest instructions and
//! sizes repeat; wall-clock times only mean something as a ratio within one run.

// Nanoseconds and bytes are far below 2^53.
#![allow(clippy::cast_precision_loss)]

pub mod boot;
pub mod e2e;
pub mod facts;
pub mod io;
pub mod judge;
pub mod measure;
pub mod pack;
pub mod payload;
pub mod report;
pub mod size;
pub mod subject;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use self::report::Report;
use crate::{output, workspace};

/// Measure boots, whole runs and packing
#[derive(Debug, clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Boot(boot::Boot),
    E2e(e2e::E2e),
    Pack(pack::Pack),
    Size(size::Size),
    Io(io::Io),
}

/// What becomes of the numbers.
#[derive(Debug, clap::Args)]
pub struct Output {
    /// Write the numbers to FILE as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail where a number differs by more than 1 % from those in FILE
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Fail where a number is more than 2 % over its budget in FILE
    #[arg(long, value_name = "FILE")]
    budget: Option<PathBuf>,
}

impl Bench {
    /// Measures, prints, and judges where that was asked for.
    pub fn run(self) -> Result<()> {
        let (report, output) = match self.what {
            What::Boot(boot) => (boot.measure()?, boot.output),
            What::E2e(e2e) => (e2e.measure()?, e2e.output),
            What::Pack(pack) => (pack.measure()?, pack.output),
            What::Size(size) => (size.measure()?, size.output),
            What::Io(io) => (io.measure()?, io.output),
        };
        output.publish(&report)
    }
}

impl Output {
    fn publish(&self, report: &Report) -> Result<()> {
        print!("{}", report.markdown());
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report.json())?;
            output::write(file, format!("{text}\n").as_bytes())?;
        }
        let mut faults = Vec::new();
        if let Some(file) = &self.compare {
            let base = serde_json::from_str(&read(file)?);
            let base = base.with_context(|| format!("{} is not JSON", file.display()))?;
            faults.extend(judge::compare(report, &base).with_context(|| in_file(file))?);
        }
        if let Some(file) = &self.budget {
            let budget = read(file)?.parse();
            let budget = budget.with_context(|| format!("{} is not TOML", file.display()))?;
            faults.extend(judge::budget(report, &budget).with_context(|| in_file(file))?);
        }
        ensure!(faults.is_empty(), "{}", faults.join("\n  "));
        Ok(())
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

fn in_file(file: &Path) -> String {
    format!("judge by {}", file.display())
}

/// Where a benchmark keeps what it makes, removed at its end.
fn scratch() -> Result<tempfile::TempDir> {
    let dir = workspace::root()?.join("target");
    tempfile::Builder::new().prefix("bench-").tempdir_in(&dir).context("make a directory in target")
}
