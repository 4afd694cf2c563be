//! `cargo xtask packages`: makes both packages twice, and tests them in a fresh system.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use files::tell;
use machine::host::run;

use super::build::{self, Content, Kind};
use super::steps::steps;
use super::system;
use crate::{documents, guest, programs, source_date, step_program, workspace};

/// Make the packages twice; check, install, use and remove them in a fresh Debian
#[derive(Debug, clap::Args)]
pub struct Packages {
    /// Test the package of the small kernel in DIR, too
    #[arg(long, value_name = "DIR")]
    kernel: Option<PathBuf>,
}

/// Kinds in the order of the table's columns.
const KINDS: [Kind; 2] = [Kind::Deb, Kind::Rpm];

/// Linters and their arguments; the package follows. They run in the source tree.
#[rustfmt::skip]
const LINTERS: [&[&str]; 2] = [
    &["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"],
    &["rpmlint", "--strict", "--config", "packaging/rpm/rpmlint.toml"],
];

/// What a tree needs for its packages once it is built.
#[rustfmt::skip]
const BUILT: &[&str] = &[
    "Makefile", "CHANGELOG.md", "LICENSE", "man", "packaging",
    "target/completions", "target/documents", "target/guest/init", "target/guest/step",
    "target/release/chrootvm", "target/release/mkvirtinitrd",
];

/// A line of the table: what is tested, and whether each kind of package passed.
#[derive(Debug, PartialEq, Eq)]
struct Row(&'static str, [bool; 2]);

/// The results.
#[derive(Debug)]
struct Table(Vec<Row>);

impl Packages {
    /// Builds, tests, and prints a table.
    ///
    /// # Errors
    /// The user is not root, a tool is missing, or a test failed.
    pub fn run(self) -> Result<()> {
        ensure!(nix::unistd::geteuid().is_root(), "a fresh system needs root");
        let root = workspace::root()?;
        guest::build()?;
        step_program::build()?;
        programs::build()?;
        documents::Documents {}.run()?;
        let make = |content: &Content| {
            let [deb, rpm] = KINDS.map(|kind| build::build(kind, content, &root));
            Ok::<_, anyhow::Error>([deb?.0, rpm?.0])
        };
        let packages = make(&Content::programs())?;
        let mut rows = vec![
            Row("lintian and rpmlint find nothing", lint(&root, &packages)?),
            Row("another directory, umask and zone: equal bytes", again(&root, &packages, None)?),
        ];
        let kernel = self.kernel.as_deref().map(Content::kernel).transpose()?;
        let kernels = kernel.as_ref().map(make).transpose()?;
        if let (Some(kernels), Some(directory)) = (&kernels, &self.kernel) {
            rows.push(Row("the kernel's: nothing is found", lint(&root, kernels)?));
            rows.push(Row("the kernel's: equal bytes", again(&root, kernels, Some(directory))?));
        }
        let layer = system::layer(&root, &packages[0])?;
        let kernel_of = |number: usize| kernels.as_ref().map(|kernels| kernels[number].as_path());
        let test = |number: usize| {
            system::test(&root, &layer, KINDS[number], &packages[number], kernel_of(number))
        };
        let (deb, rpm) = (test(0)?, test(1)?);
        let steps = steps(kernel_of(0)).into_iter().zip(deb).zip(rpm);
        rows.extend(steps.map(|((step, deb), rpm)| Row(step.name, [deb, rpm])));
        let table = Table(rows);
        tell::result(&table)?;
        ensure!(table.0.iter().all(|row| row.1 == [true; 2]), "a package failed its test");
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |passed| if passed { "yes" } else { "NO" };
        writeln!(f, "{:48}{:5}rpm", "", "deb")?;
        for Row(name, [deb, rpm]) in &self.0 {
            writeln!(f, "{name:48}{:5}{}", word(*deb), word(*rpm))?;
        }
        Ok(())
    }
}

/// Runs the linters. What they say is shown.
fn lint(root: &Path, packages: &[PathBuf; 2]) -> Result<[bool; 2]> {
    let mut passed = [false; 2];
    for ((words, package), passed) in LINTERS.iter().zip(packages).zip(&mut passed) {
        let [program, arguments @ ..] = words else { continue };
        let mut command = Command::new(program);
        command.current_dir(root).args(arguments).arg(package).stdout(Stdio::piped());
        let output = command.output();
        let output = output.with_context(|| format!("run {program}: scripts/setup packages"))?;
        *passed = output.status.success();
        if !*passed {
            log::warn!("{program} says:\n{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    Ok(passed)
}

/// Makes the packages once more from a copy of what is built, at another time, and tells which
/// have the same bytes. `kernel` is the directory of the small kernel if they are its packages.
fn again(root: &Path, packages: &[PathBuf; 2], kernel: Option<&Path>) -> Result<[bool; 2]> {
    let site = tempfile::tempdir().context("make a temporary directory")?;
    let tree = site.path().join("another tree");
    std::fs::create_dir(&tree).context("make a directory")?;
    run(Command::new("cp").current_dir(root).args(["-r", "--parents"]).args(BUILT).arg(&tree))?;
    let own = std::env::current_exe().context("find this program")?;
    let mut equal = [false; 2];
    for ((task, package), equal) in ["deb", "rpm"].into_iter().zip(packages).zip(&mut equal) {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(&own).arg(task);
        command.args(kernel.iter().flat_map(|kernel| [Path::new("--kernel"), kernel]));
        // The variable by which a task finds its tree.
        command.env("CARGO_MANIFEST_DIR", tree.join("xtask")).stdout(Stdio::null());
        command.env(source_date::VARIABLE, source_date::of(root)?.to_string());
        command.envs([("TZ", "AAA-13"), ("LC_ALL", "tr_TR.UTF-8")]);
        run(&mut command)?;
        let name = package.file_name().context("a package without a name")?;
        let read =
            |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
        *equal = read(package)? == read(&tree.join("target/packages").join(name))?;
    }
    Ok(equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_failed() {
        let table = Table(vec![Row("a", [true, false]), Row("b", [true, true])]);
        let blank = " ".repeat(47);
        let expected = format!(" {blank}deb  rpm\na{blank}yes  NO\nb{blank}yes  yes\n");
        assert_eq!(table.to_string(), expected);
    }
}
