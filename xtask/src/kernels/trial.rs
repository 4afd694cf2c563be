//! One kernel in one check.

use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::checks::{Check, CheckRoot, MARK, START};
use crate::outcomes::Outcome;
use crate::{programs, testbed};

/// Time limit of a machine, as `--timeout` takes it.
const LIMIT: &str = "180s";

/// Most bytes of a machine's output that are read.
const OUTPUT_MAX: u64 = 4 << 20;

/// The roots, and the programs that boot them.
#[derive(Debug)]
pub(super) struct Site {
    directory: TempDir,
    init: PathBuf,
}

impl Site {
    /// Makes both roots.
    ///
    /// # Errors
    /// The host has no static busybox, or a file cannot be written.
    pub(super) fn new(init: PathBuf) -> Result<Self> {
        let made = tempfile::Builder::new().prefix("virtinitrd-kernels-").tempdir();
        let site = Self { directory: made.context("make a directory")?, init };
        let root = site.root(CheckRoot::Directory);
        testbed::make_root(&root, &testbed::busybox()?, &[START])?;
        programs::make_image(&root, &site.root(CheckRoot::Erofs))?;
        Ok(site)
    }

    fn root(&self, root: CheckRoot) -> PathBuf {
        self.directory.path().join(match root {
            CheckRoot::Directory => "root",
            CheckRoot::Erofs => "root.erofs",
        })
    }

    /// Boots a machine with the kernel of these `options`, and compares what it does.
    ///
    /// # Errors
    /// The machine cannot be started.
    pub(super) fn run(&self, kernel: &[OsString], check: &Check) -> Result<Outcome> {
        let file = || tempfile::tempfile().context("make a file");
        let (mut input, mut output, mut errors) = (file()?, file()?, file()?);
        input.write_all(MARK.as_bytes()).and_then(|()| input.rewind()).context("write a file")?;
        let mut command = Command::new(programs::chrootvm()?);
        command.args(["--no-config", "--warm", "never", "--timeout", LIMIT]);
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
        let shown = [errors, output].into_iter().find_map(|text| text.trim_end().lines().last());
        Ok(Outcome::Failed(format!("{status}: {}", shown.unwrap_or("no message"))))
    }
}
