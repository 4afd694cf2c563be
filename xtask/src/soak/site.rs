//! Roots, caches, and the runs with them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::kinds::{Answer, KINDS, Kind, Streams, TYPED, UP, input, is_warm, status};
use super::streams::{OnTerminal, through_pipes};
use crate::{programs, testbed, workspace};

/// Limit of a command, as `--timeout` takes it. A command that hangs ends with a wrong status.
const LIMIT: &str = "120s";

/// Directory of a soak.
pub(super) struct Site {
    dir: TempDir,
    kernel: testbed::HostKernel,
    roots: Vec<PathBuf>,
    /// `scripts/chrootvm`, which names the /init of this checkout.
    program: PathBuf,
    /// Number of machines that came from templates.
    warm: AtomicUsize,
    /// Number of names that machines have.
    names: AtomicUsize,
}

/// A run, which can be made again.
pub(super) struct Run<'a> {
    site: &'a Site,
    pub(super) kind: &'static Kind,
    root: &'a Path,
    pub(super) status: usize,
    cache: PathBuf,
    name: String,
}

impl Site {
    /// A busybox, a Debian and an image of the busybox.
    pub(super) fn new() -> Result<Self> {
        let workspace = workspace::root()?;
        let dir = tempfile::Builder::new().prefix("virtinitrd-soak-").tempdir()?;
        for name in ["cache", "tmp", "share"] {
            fs::create_dir(dir.path().join(name))?;
        }
        fs::write(dir.path().join("share/word"), "shared\n")?;
        let busybox = dir.path().join("busybox");
        testbed::make_root(&busybox, &testbed::busybox()?, &[])?;
        fs::create_dir_all(busybox.join("mnt"))?;
        fs::create_dir_all(busybox.join("etc"))?;
        let image = dir.path().join("root.erofs");
        programs::make_image(&busybox, &image, &[])?;
        let roots = vec![busybox, testbed::debian(&workspace)?, image];
        let kernel = testbed::kernel(&workspace)?;
        let program = workspace.join("scripts/chrootvm");
        let (warm, names) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Self { dir, kernel, roots, program, warm, names })
    }

    /// A path in the directory of the soak.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Beginning of the names of all machines that have one.
    pub(super) fn name_prefix() -> String {
        format!("soak-{}-", std::process::id())
    }

    /// Cache directory of all runs that do not have one of their own.
    pub(super) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// Number of combinations of kinds and roots. Successive runs have all of them.
    pub(super) fn combinations(&self) -> usize {
        KINDS.len() * self.roots.len()
    }

    /// Number of machines that came from templates until now.
    pub(super) fn warm(&self) -> usize {
        self.warm.load(Ordering::Relaxed)
    }

    /// Run `number`, with a cache directory.
    pub(super) fn run(&self, number: usize, cache: PathBuf) -> Run<'_> {
        let (kind, root) = Kind::of_run(number, self.roots.len());
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{name}", Self::name_prefix());
        Run { site: self, kind, root: &self.roots[root], status: status(number), cache, name }
    }
}

impl Run<'_> {
    /// The command that starts the machine.
    pub(super) fn first(&self) -> Command {
        let mut command = self.command();
        command.args(["--warm=always", "--timing", "--timeout", LIMIT]);
        command.arg("--kernel").arg(&self.site.kernel.image);
        command.arg("--modules").arg(&self.site.kernel.modules);
        let dir = self.site.dir.path().to_string_lossy();
        command.args(self.kind.options.iter().map(|option| option.replace('@', &dir)));
        if self.kind.streams == Streams::Exec {
            command.args(["--name", &self.name]);
        }
        command.arg(self.root).args(["--", "sh", "-c", &self.kind.first_script(self.status)]);
        command
    }

    /// The command that enters the machine.
    pub(super) fn second(&self) -> Command {
        let mut command = self.command();
        command.args(["exec", "--timeout", LIMIT, &self.name]);
        command.args(["--", "sh", "-c", &self.kind.script(self.status)]);
        command
    }

    /// chrootvm with pipes. Its environment has paths of the site, by which processes are found.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.site.program);
        command.env("XDG_CACHE_HOME", &self.cache).env("TMPDIR", self.site.path("tmp"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Makes the run, and checks its answer.
    ///
    /// # Errors
    /// The answer is wrong.
    pub(super) fn check(&self) -> Result<()> {
        self.make().with_context(|| format!("{} in {}", self.kind.name, self.root.display()))
    }

    fn make(&self) -> Result<()> {
        let answer = self.kind.answer(self.status);
        let first = match self.kind.streams {
            Streams::Pipes => through_pipes(self.first().spawn()?, &input())?,
            Streams::Terminal => OnTerminal::start(&self.first())?.answer(self.kind.says, TYPED)?,
            Streams::Exec => {
                let (first, second) = self.enter()?;
                Answer::of_first(self.status).check(&first).context("the first command")?;
                answer.check(&second.context("the machine did not come up")?)?;
                self.count(&first);
                return Ok(());
            }
        };
        answer.check(&first)?;
        self.count(&first);
        Ok(())
    }

    /// Starts the machine, and enters it when it is up. Its input ends after the second command.
    fn enter(&self) -> Result<(Output, Option<Output>)> {
        let mut first = self.first().spawn()?;
        let mut up = [0; UP.len()];
        let is_up = first.stdout.as_mut().context("stdout")?.read_exact(&mut up).is_ok();
        let second = match is_up {
            true => Some(through_pipes(self.second().spawn()?, &input())?),
            false => None,
        };
        let mut output = first.wait_with_output()?; // closes the machine's input
        output.stdout.splice(..0, up);
        Ok((output, second))
    }

    fn count(&self, first: &Output) {
        self.site.warm.fetch_add(usize::from(is_warm(first)), Ordering::Relaxed);
    }
}
