//! A root and a cache of their own, so that no test meets the templates of another one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use xtask::testbed;

use crate::harness::command_run::{CommandRun, FinishedCommand};
use crate::harness::{Bed, new_directory};

/// Prefix of a file that is still being written.
const UNFINISHED: &str = ".virtinitrd-";

/// Memory of the machines in MiB; the state of a template's devices stands behind it.
pub(crate) const MEMORY: u64 = 256;

/// A root of busybox and an empty cache.
pub(crate) struct Site<'a> {
    pub(crate) bed: &'a Bed,
    directory: TempDir,
}

/// What a run answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: i32,
    pub(crate) stdout: &'a [u8],
    /// Parts of standard error. If the list is empty, standard error is empty.
    pub(crate) says: &'a [&'a str],
}

/// How a machine came up, by `--timing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Cold,
    Warm,
    /// The command did not run.
    Unknown,
}

impl<'a> Site<'a> {
    pub(crate) fn new(bed: &'a Bed) -> Result<Self> {
        let site = Self { bed, directory: new_directory()? };
        for name in ["cache", "share", "tmp", "root"] {
            fs::create_dir(site.path(name))?;
        }
        fs::write(site.path("share/word"), "shared\n")?;
        fs::write(site.path("file"), "one file\n")?;
        testbed::make_root(&site.path("root"), &bed.busybox, &[])?;
        for name in ["etc", "vol"] {
            fs::create_dir_all(site.path("root").join(name))?;
        }
        fs::write(site.path("root/one"), "")?;
        let plain = site.path("root/bin/plain");
        fs::write(&plain, "")?;
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644))?;
        Ok(site)
    }

    /// A path in the directory of the site.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A run with `options`, in which `@` stands for the directory of the site.
    pub(crate) fn run(&self, options: &[&str], words: &[&str]) -> Result<CommandRun> {
        let here = self.directory.path().to_str().context("a path in UTF-8")?;
        let mut machine = self.bed.bare_machine()?;
        machine.root_is(&self.path("root"));
        machine.options(&["--timing", "--memory", &MEMORY.to_string()]);
        let options: Vec<_> = options.iter().map(|option| option.replace('@', here)).collect();
        machine.options(&options.iter().map(String::as_str).collect::<Vec<_>>());
        let run = CommandRun::new(machine, words);
        let run = run.variable("XDG_CACHE_HOME", self.path("cache"));
        Ok(run.variable("TMPDIR", self.path("tmp")))
    }

    /// A run of a script that must be warm, or make a template.
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> Result<CommandRun> {
        let options = [&["--warm=always"], options].concat();
        self.run(&options, &["sh", "-c", script])
    }

    /// Runs a script twice at most; the last run was warm. Each run answers `answer`.
    pub(crate) fn answers(&self, options: &[&str], script: &str, answer: Answer<'_>) -> Result<()> {
        self.answers_to(|| self.sh(options, script), answer)
    }

    /// As [`Site::answers`], for any run.
    pub(crate) fn answers_to(
        &self,
        run: impl Fn() -> Result<CommandRun>,
        answer: Answer<'_>,
    ) -> Result<()> {
        if answer.check(run()?.finish()?)? == Start::Warm {
            return Ok(());
        }
        let start = answer.check(run()?.finish()?)?;
        ensure!(start != Start::Cold, "a second run is cold, with {:?}", self.templates()?);
        Ok(())
    }

    /// A run of `echo` answers, and its machine came up in this way.
    pub(crate) fn echoes(&self, start: Start) -> Result<()> {
        let answer = Answer { status: 3, stdout: b"right\n", says: &[] };
        let found = answer.check(self.sh(&[], "echo right; exit 3")?.finish()?)?;
        ensure!(found == start, "expected: {start:?}, got: {found:?}");
        Ok(())
    }

    /// Directory of the templates.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("cache/virtinitrd/warm")
    }

    /// Complete templates.
    pub(crate) fn templates(&self) -> Result<Vec<PathBuf>> {
        self.stored(|name| !name.starts_with(UNFINISHED))
    }

    /// Templates whose writer has not completed them.
    pub(crate) fn unfinished(&self) -> Result<Vec<PathBuf>> {
        self.stored(|name| name.starts_with(UNFINISHED))
    }

    fn stored(&self, select: fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let Ok(entries) = fs::read_dir(self.store()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if select(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

impl Answer<'_> {
    /// The run has answered this. Returns how its machine came up.
    pub(crate) fn check(self, mut finished: FinishedCommand) -> Result<Start> {
        let start = match finished.take_timing() {
            Some(line) if line.ends_with("(warm)") => Start::Warm,
            Some(line) if line.contains("did not run") => Start::Unknown,
            Some(_) => Start::Cold,
            None => Start::Unknown,
        };
        match self.says {
            [] => finished.is(self.status, self.stdout, "")?,
            says => finished.says(self.status, &String::from_utf8_lossy(self.stdout), says)?,
        };
        Ok(start)
    }
}
