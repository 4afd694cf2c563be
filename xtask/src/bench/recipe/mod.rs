//! `bench recipe`: the time of builds of a recipe: the first one, one without changes, and one
//! after a change of the last step.
//!
//! Every round has a cache directory of its own, in which the unpacked kernel is already there.
//! A build that runs more or fewer steps than it should is an error, so a time never belongs to
//! other work than its name says.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use machine::host::canonical;

use self::fixture::OUTPUT;
use super::Output;
use super::e2e::ratio;
use super::report::facts::Facts;
use super::report::{Report, Row};
use super::subject::{Options, Subject, output};
use crate::{programs, step_program, testbed, workspace};

/// Time `chrootvm image build RECIPE`: first, without changes, and with another last step
#[derive(Debug, clap::Args)]
pub struct Recipe {
    #[command(flatten)]
    pub(super) output: Output,
    #[command(flatten)]
    subject: Options,
    /// Root directory of a Debian to install on [default: that of the tests]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Number of rounds
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
}

/// A build of a round.
struct Build {
    name: &'static str,
    /// What is done before.
    before: Before,
    /// Commands that must run; all of them in one boot.
    commands: usize,
}

/// A change before a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// None.
    Nothing,
    /// The output is removed.
    RemoveOutput,
    /// The last step becomes another one.
    ChangeLastStep,
}

/// The builds of a round, in this order. The first one is what the others are compared with.
#[rustfmt::skip]
const BUILDS: [Build; 4] = [
    Build { name: "first build",         before: Before::Nothing,        commands: 3 },
    Build { name: "no change",           before: Before::Nothing,        commands: 0 },
    Build { name: "output removed",      before: Before::RemoveOutput,   commands: 0 },
    Build { name: "last step changed",   before: Before::ChangeLastStep, commands: 1 },
];

/// Milliseconds of the builds of a round.
type Round = [f64; BUILDS.len()];

impl Recipe {
    /// Measures the builds.
    pub fn measure(&self) -> Result<Report> {
        let subject = Subject::prepare(&self.subject)?;
        step_program::build()?;
        let facts = Facts::gather(&subject)?;
        let root = match &self.root {
            Some(root) => canonical(root)?,
            None => testbed::debian(&workspace::root()?)?,
        };
        let package = subject.scratch().join("package");
        fixture::write_packages(&package)?;
        let rounds = (0..self.runs).map(|number| round(&subject, &root, &package, number));
        let rounds = rounds.collect::<Result<Vec<_>>>()?;
        Ok(Report { bench: "recipe", statistic: "median", facts, rows: rows(&rounds) })
    }
}

/// Runs the builds, with an empty cache of steps.
fn round(subject: &Subject, root: &Path, package: &Path, number: u16) -> Result<Round> {
    fixture::write_recipe(package, root, "first")?;
    let cache = subject.scratch().join("cache");
    let steps = cache.join("virtinitrd/steps");
    for old in [&steps, &package.join(OUTPUT)] {
        remove(old)?;
    }
    // A machine that is not measured leaves the unpacked kernel in the cache.
    if number == 0 {
        let mut boot = subject.chrootvm(&[], root, &["true"])?;
        output(boot.env("XDG_CACHE_HOME", &cache))?;
    }
    let mut round = [0.0; BUILDS.len()];
    for (time, build) in round.iter_mut().zip(&BUILDS) {
        match build.before {
            Before::Nothing => {}
            Before::RemoveOutput => remove(&package.join(OUTPUT))?,
            Before::ChangeLastStep => fixture::write_recipe(package, root, "second")?,
        }
        let mut command = Command::new(programs::chrootvm()?);
        command.args(["image", "build", "recipe.toml", "--kernel"]).arg(&subject.kernel.image);
        command.arg("--modules").arg(&subject.kernel.modules).current_dir(package);
        command.env("XDG_CACHE_HOME", &cache).env("CHROOTVM_NO_CONFIG", "1");
        let start = Instant::now();
        let (_, stderr) = output(&mut command)?;
        *time = start.elapsed().as_secs_f64() * 1e3;
        check(build, &boots(&stderr)).with_context(|| format!("{command:?} said: {stderr}"))?;
    }
    Ok(round)
}

/// Removes a file or a directory, if it exists.
fn remove(path: &Path) -> Result<()> {
    let result = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false if !path.exists() => Ok(()),
        false => fs::remove_file(path),
    };
    result.with_context(|| format!("remove {}", path.display()))
}

/// The boots that the commands of a build have named, one for each command that ran.
fn boots(stderr: &str) -> Vec<&str> {
    let is_uuid =
        |line: &&str| line.len() == 36 && line.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    stderr.lines().filter(is_uuid).collect()
}

/// Checks how many commands have run, and that they ran in one machine.
fn check(build: &Build, boots: &[&str]) -> Result<()> {
    let Build { name, commands, .. } = build;
    ensure!(boots.len() == *commands, "{name}: {} commands ran instead of {commands}", boots.len());
    let is_one = boots.windows(2).all(|pair| pair[0] == pair[1]);
    ensure!(is_one, "{name}: the commands ran in more than one machine");
    Ok(())
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let all = |at: usize| rounds.iter().map(|round| round[at]).collect::<Vec<_>>();
    let first = all(0);
    let mut rows = Vec::new();
    for (at, Build { name, .. }) in BUILDS.iter().enumerate() {
        rows.push(Row::median(format!("time, {name}"), "ms", all(at)));
        if at > 0 {
            rows.push(ratio(format!("ratio, {name} to the first build"), &all(at), &first));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "b83776d2-6565-4528-9908-af19b1455bb8";
    const OTHER: &str = "5f360c4e-3835-46d2-9fe6-1b796e84372c";

    #[test]
    fn builds_that_do_other_work_are_errors() {
        let said =
            |ids: &[&str]| format!("step 1: run a\n{}\nout.erofs: erofs, 1 s\n", ids.join("\nx\n"));
        for (at, ids, fault) in [
            (0, &[BOOT, BOOT, BOOT][..], None),
            (0, &[BOOT, BOOT, OTHER], Some("more than one machine")),
            (0, &[BOOT, BOOT], Some("2 commands ran instead of 3")),
            (1, &[], None),
            (1, &[BOOT], Some("1 commands ran instead of 0")),
            (3, &[OTHER], None),
        ] {
            let stderr = said(ids);
            let error = check(&BUILDS[at], &boots(&stderr)).err().map(|error| error.to_string());
            match (&error, fault) {
                (Some(error), Some(part)) => assert!(error.contains(part), "{error}"),
                (error, fault) => assert_eq!(error.as_deref(), fault),
            }
        }
    }

    #[test]
    fn every_build_but_the_first_has_a_ratio() {
        let rows = rows(&[[8000.0, 40.0, 400.0, 2000.0], [4000.0, 40.0, 400.0, 2000.0]]);
        assert_eq!(rows.len(), 2 * BUILDS.len() - 1);
        let ratio =
            rows.iter().find(|row| row.name == "ratio, last step changed to the first build");
        let ratio = ratio.unwrap();
        assert!((ratio.min - 0.25).abs() < 1e-9 && (ratio.max - 0.5).abs() < 1e-9);
    }
}
