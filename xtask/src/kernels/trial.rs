//! One kernel in one check.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::checks::{Check, CheckRoot, MARK, START};
use crate::outcomes::{Outcome, last_words};
use crate::{programs, testbed};

/// Time limit of a machine, as `--timeout` takes it.
const LIMIT: &str = "180s";

/// Most bytes of a machine's output that are read.
const OUTPUT_MAX: u64 = 4 << 20;

/// The roots, and the programs that boot them.
#[derive(Debug)]
pub(crate) struct Site {
    directory: TempDir,
    init: PathBuf,
}

impl Site {
    /// Makes both roots with this static `busybox`, for machines that start with `init`. `options`
    /// are those of `chrootvm image build`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn new(init: PathBuf, busybox: &Path, options: &[&str]) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("virtinitrd-kernels-").tempdir();
        let site = Self { directory: made.context("make a directory")?, init };
        let root = site.root(CheckRoot::Directory);
        testbed::make_root(&root, busybox, &[START])?;
        programs::make_image(&root, &site.root(CheckRoot::Erofs), options)?;
        Ok(site)
    }

    /// Path of `/init`.
    pub(crate) fn init(&self) -> &Path {
        &self.init
    }

    /// Path of a root.
    pub(crate) fn root(&self, root: CheckRoot) -> PathBuf {
        self.directory.path().join(match root {
            CheckRoot::Directory => "root",
            CheckRoot::Erofs => "root.erofs",
        })
    }

    /// Boots a machine with the kernel of these `options`, and compares what it does.
    ///
    /// # Errors
    /// The machine cannot be started.
    pub(crate) fn run(&self, kernel: &[OsString], check: &Check) -> Result<Outcome> {
        let mut command = Command::new(programs::chrootvm()?);
        command.args(["--warm", "never"]);
        self.finish(command, kernel, check)
    }

    /// As [`Site::run`], twice: the first run saves its machine, and the second one starts from
    /// that.
    ///
    /// # Errors
    /// The machine cannot be started, or the cache cannot be read.
    pub(crate) fn run_warm(&self, kernel: &[OsString], check: &Check) -> Result<Outcome> {
        let cache = self.directory.path().join("cache");
        for _ in 0..2 {
            let mut command = Command::new(programs::chrootvm()?);
            command.args(["--warm", "always"]).env("XDG_CACHE_HOME", &cache);
            let outcome = self.finish(command, kernel, check)?;
            if outcome != Outcome::Worked {
                return Ok(outcome);
            }
        }
        // A saved machine that does not start is removed.
        let saved =
            fs::read_dir(cache.join("virtinitrd/warm")).context("list the saved machines")?;
        Ok(match saved.count() {
            0 => Outcome::Failed("no machine is saved".into()),
            _ => Outcome::Worked,
        })
    }

    /// Gives `command` the rest of its arguments, runs it, and compares what it does.
    fn finish(&self, mut command: Command, kernel: &[OsString], check: &Check) -> Result<Outcome> {
        let file = || tempfile::tempfile().context("make a file");
        let (mut input, mut output, mut errors) = (file()?, file()?, file()?);
        input.write_all(MARK.as_bytes()).and_then(|()| input.rewind()).context("write a file")?;
        command.args(["--no-config", "--timeout", LIMIT]);
        command.arg("--init").arg(&self.init).args(kernel).args(check.options);
        command.arg(self.root(check.root)).args(check.words);
        command.stdin(Stdio::from(input));
        command.stdout(output.try_clone().context("share a file")?);
        command.stderr(errors.try_clone().context("share a file")?);
        let status = command.status().context("start chrootvm")?;
        let mut texts = [String::new(), String::new()];
        for (file, text) in [&mut output, &mut errors].into_iter().zip(&mut texts) {
            let mut bytes = Vec::new();
            let read = file.rewind().and_then(|()| file.take(OUTPUT_MAX).read_to_end(&mut bytes));
            read.context("read the machine's output")?;
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let [output, errors] = &texts;
        if status.code() == Some(check.status) && output.contains(MARK) {
            return Ok(Outcome::Worked);
        }
        let shown = last_words([errors, output]).unwrap_or("no message");
        Ok(Outcome::Failed(format!("{status}: {shown}")))
    }
}
