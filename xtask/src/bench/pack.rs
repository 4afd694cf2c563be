//! `bench pack`: time and memory of packing an initrd, compared with another command.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};

use super::Output;
use super::e2e::{Column, WALL, rows};
use super::measure::in_turn;
use super::report::Report;
use super::report::facts::Facts;
use super::subject::{self, Subject};

/// Measure time and memory of packing, and compare them with another command
#[derive(Debug, clap::Args)]
pub struct Pack {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    subject: subject::Options,
    /// The other command, for sh -c, with $OUTPUT, $KERNEL, $MODULES and $INIT
    #[arg(long, value_name = "COMMAND")]
    vs: Option<OsString>,
    /// Number of runs of each command
    #[arg(long, value_name = "N", default_value = "21", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Options for pack
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

const COLUMNS: &[Column] = &[
    WALL,
    ("processor time", "ms", |usage| usage.cpu),
    ("peak memory", "MiB", |usage| usage.memory),
];

impl Pack {
    /// Measures both commands.
    pub fn measure(&self) -> Result<Report> {
        let subject = Subject::prepare(&self.subject)?;
        let facts = Facts::gather(&subject)?;
        let output = subject.scratch().join("initrd");
        let mut ours = Command::new(std::env::current_exe().context("find this program")?);
        ours.args(["pack", "--init"]).arg(&subject.init);
        ours.arg("--modules-dir").arg(&subject.kernel.modules);
        ours.args(&self.options).arg("-o").arg(&output);
        let other = self.vs.as_ref().map(|text| {
            let mut shell = subject.shell(text, subject.scratch());
            shell.env("OUTPUT", subject.scratch().join("other-initrd"));
            shell
        });
        let pairs = in_turn(self.runs, &ours, other.as_ref())?;
        Ok(Report {
            bench: "pack",
            statistic: "median",
            facts,
            rows: rows(&pairs, "pack", COLUMNS),
        })
    }
}
