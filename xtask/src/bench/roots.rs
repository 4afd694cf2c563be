//! `bench roots`: what it costs to have the root in this or that.
//!
//! The same tree is a shared directory and an image of each kind. They run in
//! turn, round by round, so that a busy minute of the host meets all of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Output;
use super::facts::Facts;
use super::report::{Report, Row};
use super::subject::{self, Subject, output};
use crate::programs;

/// Boot time and free memory by the kind of root
#[derive(Debug, clap::Args)]
pub struct Roots {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    subject: subject::Options,
    /// Root directory, with a cat [default: a busybox]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Kinds of images to measure, as files are called in which they are
    #[arg(
        long,
        value_name = "ENDING",
        value_delimiter = ',',
        default_value = "erofs,squashfs,ext4,cpio,cpio.zst"
    )]
    kinds: Vec<String>,
    /// Runs of each
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Options for chrootvm
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// What a guest says of itself.
const COMMAND: &[&str] = &["cat", "/proc/uptime", "/proc/meminfo"];

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    /// Milliseconds of the whole run.
    wall: f64,
    /// Milliseconds from the kernel's start to the command's.
    boot: f64,
    /// MiB that programs could have.
    free: f64,
}

/// Of a row: its name, its unit, and where the number is.
type Column = (&'static str, &'static str, fn(&Run) -> f64);

#[rustfmt::skip]
const COLUMNS: &[Column] = &[
    ("whole run",   "ms",  |run| run.wall),
    ("boot",        "ms",  |run| run.boot),
    ("free memory", "MiB", |run| run.free),
];

impl Roots {
    /// Three rows a kind.
    pub fn measure(&self) -> Result<Report> {
        let subject = Subject::prepare(&self.subject)?;
        let facts = Facts::gather(&subject)?;
        let root = subject.root_or_busybox(self.root.as_deref())?;
        let mut roots = vec![("directory", root.clone())];
        for kind in &self.kinds {
            let image = subject.scratch().join(format!("image.{kind}"));
            build(&root, &image)?;
            roots.push((kind, image));
        }
        let mut runs = vec![Vec::new(); roots.len()];
        for _ in 0..self.runs {
            for ((_, root), runs) in roots.iter().zip(&mut runs) {
                runs.push(self.run(&subject, root)?);
            }
        }
        let mut rows = Vec::new();
        for ((kind, _), runs) in roots.iter().zip(&runs) {
            for (what, unit, get) in COLUMNS {
                let values = runs.iter().map(get).collect();
                rows.push(Row::median(format!("{kind}: {what}"), unit, values));
            }
        }
        Ok(Report { bench: "roots", statistic: "median", facts, rows })
    }

    fn run(&self, subject: &Subject, root: &Path) -> Result<Run> {
        let mut command = subject.chrootvm(&self.options, root, COMMAND)?;
        let begin = Instant::now();
        let (stdout, _) = output(&mut command)?;
        let wall = begin.elapsed().as_secs_f64() * 1e3;
        let text = String::from_utf8_lossy(&stdout);
        let (boot, free) = parse(&text).with_context(|| format!("{command:?} says {text}"))?;
        Ok(Run { wall, boot, free })
    }
}

fn build(root: &Path, image: &Path) -> Result<()> {
    let mut build = Command::new(programs::chrootvm()?);
    build.args(["image", "build"]).arg(root).arg("-o").arg(image);
    output(&mut build).map(drop)
}

/// Milliseconds of uptime, and MiB that are available.
fn parse(text: &str) -> Option<(f64, f64)> {
    let uptime: f64 = text.split_whitespace().next()?.parse().ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((uptime * 1e3, kib / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_understood() {
        let text = "0.85 0.20\nMemTotal:  1 kB\nMemAvailable:   1048576 kB\n";
        let (boot, free) = parse(text).unwrap();
        assert!((boot - 850.0).abs() < 1e-6 && (free - 1024.0).abs() < 1e-6);
        assert_eq!(parse("cat: not found"), None);
        assert_eq!(parse("0.85 0.20\n"), None);
    }
}
