//! `bench roots`: boot time and memory by kind of root.
//!
//! One tree becomes a shared directory and an image of each kind. They run in turn, so
//! that a busy minute of the host affects all of them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Output;
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{MachineOptions, Subject, output};
use crate::programs;

/// Measure boot time and free memory for each kind of root
#[derive(Debug, clap::Args)]
pub struct Roots {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    machine: MachineOptions,
    /// Kinds of images to measure, as file name endings
    #[arg(
        long,
        value_name = "ENDING",
        value_delimiter = ',',
        default_value = "erofs,squashfs,ext4,cpio,cpio.zst"
    )]
    kinds: Vec<String>,
    /// Number of runs of each kind
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
}

/// Command that prints the guest's uptime and memory.
const COMMAND: &[&str] = &["cat", "/proc/uptime", "/proc/meminfo"];

/// Numbers of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RootRun {
    /// Time of the whole run in milliseconds.
    wall: f64,
    /// Time from the start of the kernel to the start of the command in milliseconds.
    boot: f64,
    /// Memory that programs could use, in MiB.
    free: f64,
}

/// One number of [`RootRun`]: its name, its unit, and a function that gets it.
type RootColumn = (&'static str, &'static str, fn(&RootRun) -> f64);

#[rustfmt::skip]
const COLUMNS: &[RootColumn] = &[
    ("whole run",   "ms",  |run| run.wall),
    ("boot",        "ms",  |run| run.boot),
    ("free memory", "MiB", |run| run.free),
];

impl Roots {
    /// Measures three rows for each kind.
    pub fn measure(&self) -> Result<Report> {
        let (subject, root) = self.machine.prepare()?;
        let facts = Facts::gather(&subject)?;
        let mut roots = vec![("directory", root.clone())];
        for kind in &self.kinds {
            let image = subject.scratch().join(format!("image.{kind}"));
            programs::make_image(&root, &image, &[])?;
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

    fn run(&self, subject: &Subject, root: &Path) -> Result<RootRun> {
        let mut command = subject.chrootvm(&self.machine.options, root, COMMAND)?;
        let begin = Instant::now();
        let (stdout, _) = output(&mut command)?;
        let wall = begin.elapsed().as_secs_f64() * 1e3;
        let text = String::from_utf8_lossy(&stdout);
        let (boot, free) = parse(&text).with_context(|| format!("{command:?} says {text}"))?;
        Ok(RootRun { wall, boot, free })
    }
}

/// Reads the uptime in milliseconds and the available memory in MiB.
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
    fn uptime_and_memory_are_read() {
        let text = "0.85 0.20\nMemTotal:  1 kB\nMemAvailable:   1048576 kB\n";
        let (boot, free) = parse(text).unwrap();
        assert!((boot - 850.0).abs() < 1e-6 && (free - 1024.0).abs() < 1e-6);
        assert_eq!(parse("cat: not found"), None);
        assert_eq!(parse("0.85 0.20\n"), None);
    }
}
