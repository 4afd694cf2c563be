//! `cargo xtask test`: everything that is tested, and one line that counts it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{guest, testbed, workspace};

/// Run every test
#[derive(Debug, clap::Args)]
pub struct Test {}

/// How many tests ended in which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Test {
    /// Unit tests first, for they are quick; then those that boot machines.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        guest::build()?;
        let cargo_test = || {
            let mut command = Command::new(workspace::cargo());
            command.current_dir(&root).arg("test").args(workspace::vendor_arguments(&root));
            command.args(["--locked", "--workspace", "--no-fail-fast"]);
            command
        };
        let mut build = cargo_test().arg("--no-run").spawn().context("run cargo test")?;
        // Made here, and not when the first test asks, to be seen while it lasts.
        let debian = testbed::debian(&root);
        // Whatever it is, the tests' own run of cargo says it again.
        build.wait()?;
        if let Err(error) = debian {
            eprintln!("no Debian to test with: {error:#}");
        }
        let mut cargo = cargo_test().stdout(Stdio::piped()).spawn().context("run cargo test")?;
        let output = cargo.stdout.take().context("no output of cargo test")?;
        let mut count = Count::default();
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            let _ = writeln!(std::io::stdout(), "{line}"); // read on, or cargo is left alone
            count.add(&line);
        }
        let status = cargo.wait()?;
        let Count { passed, failed, skipped } = count;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        ensure!(passed > 0, "no test ran");
        if !status.success() || failed > 0 {
            bail!("the tests failed");
        }
        Ok(())
    }
}

impl Count {
    /// Adds a line such as
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut count = Count::default();
        for line in [
            "test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.15s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test a::b ... ok",
        ] {
            count.add(line);
        }
        assert_eq!(count, Count { passed: 30, failed: 2, skipped: 1 });
    }
}
