//! `cargo xtask test`: runs every test, and prints a line that counts them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use files::tell;

use crate::kernels::packages;
use crate::{guest, programs, step_program, testbed, workspace};

/// Run every test
#[derive(Debug, clap::Args)]
pub struct Test {
    /// Run only the tests in machines whose names contain NAME
    #[arg(long, value_name = "NAME")]
    machines: Option<String>,
}

/// Architectures, other than that of this host, whose machines are tested.
#[cfg(not(target_arch = "aarch64"))]
const FOREIGN: &[&str] = &["aarch64"];
#[cfg(target_arch = "aarch64")]
const FOREIGN: &[&str] = &[];

/// Beginning of the line that a test prints when it skips itself.
const SKIPPED: &str = "skipped: ";

/// Numbers of tests by their result.
#[derive(Debug, Default, PartialEq, Eq)]
struct TestCount {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of the tests that skipped themselves; cargo counts them as passed.
    skipped: BTreeSet<String>,
}

impl Test {
    /// Builds what the tests need, then runs them.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        guest::build()?;
        step_program::build()?;
        programs::build()?;
        let cargo_test = || {
            let mut command = workspace::cargo();
            command.current_dir(&root).arg("test").args(workspace::vendor_arguments(&root));
            command.args(["--locked", "--no-fail-fast"]).args(workspace::test_profile());
            command.args(match &self.machines {
                Some(_) => &["--package", "virtinitrd-vm-tests", "--test", "vm"][..],
                None => &["--workspace"],
            });
            command
        };
        let mut build = cargo_test().arg("--no-run").spawn().context("run cargo test")?;
        // Prepare these before the tests, so that a user sees the progress.
        let debian = testbed::debian(&root);
        let foreign = FOREIGN.iter().map(|arch| {
            let ready = guest::build_for(arch).and_then(|_| testbed::foreign(&root, arch));
            ready.map(drop).with_context(|| format!("no machines of {arch} to test with"))
        });
        let foreign: Vec<_> = foreign.collect();
        let virtiofsd = testbed::virtiofsd(&root);
        let kernels = packages::TESTED.iter().map(|name| packages::kernel(&root, name));
        let kernels = kernels.collect::<Result<Vec<_>>>();
        // A failed build is reported by the run of the tests below.
        build.wait()?;
        if let Err(error) = debian {
            log::info!("no Debian to test with: {error:#}");
        }
        for error in foreign.into_iter().filter_map(Result::err) {
            log::info!("{error:#}");
        }
        if let Err(error) = virtiofsd {
            log::info!("no Rust virtiofsd to test with: {error:#}");
        }
        if let Err(error) = kernels {
            log::info!("no kernels of other releases to test with: {error:#}");
        }
        let names = self.machines.iter().flat_map(|name| ["--", name]);
        let mut cargo =
            cargo_test().args(names).stdout(Stdio::piped()).spawn().context("run cargo test")?;
        let output = cargo.stdout.take().context("no output of cargo test")?;
        let (mut count, mut failures) = (TestCount::default(), Failures::default());
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            let _ = writeln!(std::io::stdout(), "{line}"); // read on, or cargo is left alone
            count.add(&line);
            failures.add(&line);
        }
        let status = cargo.wait()?;
        // Thousands of lines lie between a failure and the end of the output.
        tell::result(&failures.told)?;
        tell::result(format_args!("{count}\n"))?;
        ensure!(count.passed > 0, "no test ran");
        if !status.success() || count.failed > 0 {
            bail!("the tests failed");
        }
        let required = std::env::var_os("REQUIRE_VM").is_some_and(|value| value == "1");
        ensure!(!required || count.skipped() == 0, "REQUIRE_VM=1: no test may be skipped");
        Ok(())
    }
}

/// What the tests that failed have said.
#[derive(Debug, Default)]
struct Failures {
    told: String,
    is_inside: bool,
}

impl Failures {
    /// Most bytes that are told again.
    const MOST: usize = 16 << 10;

    /// Adds a line of the output. What is told lies between `failures:` and the result.
    fn add(&mut self, line: &str) {
        if line.starts_with("test result: ") {
            self.is_inside = false;
        } else if line == "failures:" {
            self.is_inside = true;
        } else if self.is_inside && !line.is_empty() && self.told.len() < Self::MOST {
            self.told.extend([line, "\n"]);
        }
    }
}

impl TestCount {
    /// Adds a line such as
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`, or one of a
    /// skipped test such as `skipped: a::b: mke2fs is missing`.
    fn add(&mut self, line: &str) {
        if let Some((test, _)) = line.strip_prefix(SKIPPED).and_then(|said| said.split_once(": ")) {
            self.skipped.insert(test.into());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn skipped(&self) -> u64 {
        self.ignored + self.skipped.len() as u64
    }
}

impl std::fmt::Display for TestCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let passed = self.passed.saturating_sub(self.skipped.len() as u64);
        write!(f, "{passed} passed, {} failed, {} skipped", self.failed, self.skipped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut count = TestCount::default();
        for line in [
            "test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.15s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test a::b ... ok",
            "skipped: a::b: mke2fs is missing: run scripts/setup test",
            "skipped: a::b: blkid is missing: run scripts/setup test",
            "skipped: a::c: no extended attributes",
        ] {
            count.add(line);
        }
        assert_eq!(count.to_string(), "28 passed, 2 failed, 3 skipped");
    }

    #[test]
    fn what_failed_tests_say_is_told_again() {
        let mut failures = Failures::default();
        for line in [
            "test a ... ok",
            "failures:",
            "",
            "---- b stdout ----",
            "not equal",
            "failures:",
            "    b",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test c ... ok",
        ] {
            failures.add(line);
        }
        assert_eq!(failures.told, "---- b stdout ----\nnot equal\n    b\n");
    }

    /// Tests and this task agree on the mark.
    #[test]
    fn skipped_tests_say_so_in_one_way() {
        assert_eq!(SKIPPED, virtinitrd_vm_tests::SKIPPED);
    }
}
