//! `bench boot`: guest instructions from reset to the payload, by phase.
//!
//! With QEMU's `-icount shift=4,sleep=off`, one instruction takes 16 ns of the guest's time, and sleep
//! ends at once. So the guest's clocks count instructions, however busy the host is. While the guest
//! waits for virtiofsd, its clock jumps from one timer tick to the next; at 16 ns, a tick counts as
//! 0.25 million instructions. At 1 ns it would be 4 million, and a slow host would add tens.
//!
//! The phase `firmware` ends when the kernel's own clock begins, so it includes
//! decompression and the kernel's first steps. The phase `init` ends when the payload
//! runs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{self, Subject};
use super::timing_line::TimingLine;
use super::{Output, payload};

/// Count guest instructions from reset to the payload, by phase
#[derive(Debug, clap::Args)]
pub struct Boot {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    subject: subject::Options,
    /// Number of boots; the best one counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Measure again with each of chrootvm's savings switched off
    #[arg(long)]
    savings: bool,
    /// Options for chrootvm
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// Options that make one processor count instructions as time.
const COUNTING: &[&str] =
    &["--cpus=1", "--qemu-arg=-icount", "--qemu-arg=shift=4,sleep=off", "--timing"];

/// Nanoseconds of an instruction; QEMU has its binary logarithm.
const INSTRUCTION: f64 = 16.0;

const UNIT: &str = "M instructions";

/// Options that switch off one of chrootvm's savings each.
const SAVINGS: &[&str] =
    &["--append=cryptomgr.notests=0", "--strip=never", "--pvh=never", "--cpu=max", "--machine=q35"];

/// Millions of instructions of each phase, and their total.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phases([(&'static str, f64); 4]);

impl Boot {
    /// Measures the phases, and, if asked for, a boot without each saving.
    pub fn measure(&self) -> Result<Report> {
        let subject = Subject::prepare(&self.subject)?;
        let facts = Facts::gather(&subject)?;
        make_root(&root(&subject))?;
        let runs = self.boots(&subject, &[])?;
        let best = best(&runs);
        let mut rows: Vec<Row> = (0..best.0.len())
            .map(|at| {
                let values: Vec<_> = runs.iter().map(|run| run.0[at].1).collect();
                Row::of(best.0[at].0, UNIT, best.0[at].1, &values)
            })
            .collect();
        if self.savings {
            for option in SAVINGS {
                rows.push(self.total(&subject, format!("total, {option}"), &[option])?);
            }
            rows.push(self.total(&subject, "total, all of these".into(), SAVINGS)?);
        }
        Ok(Report { bench: "boot", statistic: "best", facts, rows })
    }

    fn total(&self, subject: &Subject, name: String, options: &[&str]) -> Result<Row> {
        let runs = self.boots(subject, options)?;
        let values: Vec<_> = runs.iter().map(Phases::total).collect();
        Ok(Row::of(name, UNIT, best(&runs).total(), &values))
    }

    fn boots(&self, subject: &Subject, more: &[&str]) -> Result<Vec<Phases>> {
        (0..self.runs).map(|_| self.boot(subject, more)).collect()
    }

    fn boot(&self, subject: &Subject, more: &[&str]) -> Result<Phases> {
        let options: Vec<OsString> = COUNTING
            .iter()
            .chain(more)
            .map(OsString::from)
            .chain(self.options.iter().cloned())
            .collect();
        let (stdout, stderr) =
            subject::output(&mut subject.chrootvm(&options, &root(subject), &["/counter"])?)?;
        phases(&stdout, &stderr).with_context(|| format!("the payload ran, but said: {stderr}"))
    }
}

impl Phases {
    fn total(&self) -> f64 {
        self.0[3].1
    }
}

/// Path of a root that contains only the payload.
fn root(subject: &Subject) -> PathBuf {
    subject.scratch().join("counter-root")
}

fn make_root(root: &Path) -> Result<()> {
    fs::create_dir(root).context("make a root directory")?;
    let program = root.join("counter");
    fs::write(&program, payload::program()).context("write the payload")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("chmod")
}

/// Reads the phases from the payload's output and from the line of `--timing`.
fn phases(stdout: &[u8], stderr: &str) -> Option<Phases> {
    let (total, clock) = payload::read(stdout)?;
    let total = total as f64 / INSTRUCTION / 1e6;
    let clock = clock.as_secs_f64() / INSTRUCTION * 1e3;
    let kernel = TimingLine::of(stderr)?.phase("kernel")? / INSTRUCTION;
    Some(Phases([
        ("firmware", total - clock),
        ("kernel", kernel),
        ("init", clock - kernel),
        ("total", total),
    ]))
}

fn best(runs: &[Phases]) -> Phases {
    let by_total = |a: &&Phases, b: &&Phases| a.total().total_cmp(&b.total());
    *runs.iter().min_by(by_total).expect("at least one run was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_add_up() {
        let words = [600_000_000_u64, 0, 550_000_000].map(u64::to_le_bytes);
        let timing = "noise\ntiming: host set-up 18.0, firmware 40.0, kernel 520.5, init 20.5, \
                      command 1.0, tear-down 2.0; 600.0 ms in all\n";
        let Phases(phases) = super::phases(words.as_flattened(), timing).unwrap();
        let sum: f64 = phases[..3].iter().map(|(_, value)| value).sum();
        assert!((sum - phases[3].1).abs() < 1e-6, "{phases:?}");
        let [firmware, init] = [50.0, 29.5].map(|milliseconds| milliseconds / INSTRUCTION);
        assert!((phases[0].1 - firmware).abs() < 1e-6 && (phases[2].1 - init).abs() < 1e-6);
        assert_eq!(super::phases(b"", timing), None);
        assert_eq!(super::phases(words.as_flattened(), ""), None);
    }

    #[test]
    fn the_least_total_is_the_best() {
        let run = |total| Phases([("", 0.0), ("", 0.0), ("", 0.0), ("", total)]);
        assert_eq!(best(&[run(3.0), run(1.0), run(2.0)]), run(1.0));
    }
}
