//! `cargo xtask soak`: many warm runs, four at a time, and SIGKILLs among them.
//!
//! Each run's answer is checked. At the end no process and no temporary file is left, and the
//! number of templates has not grown. Processes are found by the root on their command lines (proc(5)).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use files::tell;
use tempfile::TempDir;

use crate::{programs, testbed, workspace};

/// Runs at a time.
const JOBS: usize = 4;
/// Default number of runs, unless the variable `SOAK` is set.
const RUNS: usize = 1000;
/// Default number of runs that are killed.
const KILLS: usize = 50;
/// Each killed run ends within this time of its start.
const SPAN: Duration = Duration::from_millis(1500);
/// Time in which processes of a killed run end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that pass through a run.
const INPUT: usize = 100_000;

/// Run commands in warm machines, many times, and check each answer
#[derive(Debug, clap::Args)]
pub struct Soak {
    /// Number of runs [default: `SOAK`, or 1000]
    #[arg(long)]
    runs: Option<usize>,
    /// Number of runs that are killed at any moment
    #[arg(long, default_value_t = KILLS)]
    kills: usize,
}

/// A kind of run. `@` in an option stands for the directory of the soak.
struct Kind {
    name: &'static str,
    options: &'static [&'static str],
    script: &'static str,
    /// Standard output in front of the input, which comes back.
    says: &'static str,
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "plain",   options: &[],                        script: "echo out",         says: "out\n" },
    Kind { name: "volume",  options: &["-v", "@/share:/mnt"],    script: "cat /mnt/word",    says: "shared\n" },
    Kind { name: "overlay", options: &["--overlay"],             script: "echo new > /new; cat /new", says: "new\n" },
    Kind { name: "network", options: &["--net", "user"],         script: "cat /etc/resolv.conf", says: "nameserver 10.0.2.3\n" },
];

/// Roots and the cache.
struct Site {
    dir: TempDir,
    kernel: testbed::HostKernel,
    roots: Vec<PathBuf>,
    warm: AtomicUsize,
}

impl Soak {
    /// Runs them all.
    ///
    /// # Errors
    /// An answer is wrong, or something is left.
    pub fn run(self) -> Result<()> {
        let runs = self.runs()?;
        let site = Site::new()?;
        let start = Instant::now();
        // These runs make the templates. The store keeps fewer than there are shapes of machines.
        let shapes = KINDS.len() * site.roots.len();
        for number in 0..shapes {
            site.check(number).with_context(|| format!("first run {number}"))?;
        }
        let stored = site.stored()?;
        in_parallel(runs, |number| site.check(number))?;
        in_parallel(self.kills, |number| site.kill(number))?;
        for number in 0..shapes {
            site.check(number).with_context(|| format!("run {number} after the kills"))?;
        }
        site.nothing_is_left(stored)?;
        let (warm, seconds) = (site.warm.load(Ordering::Relaxed), start.elapsed().as_secs());
        let kills = self.kills;
        tell::result(format_args!(
            "soak: {runs} runs and {kills} kills in {seconds} s; {warm} machines were warm\n"
        ))?;
        Ok(())
    }

    fn runs(&self) -> Result<usize> {
        match (self.runs, std::env::var("SOAK")) {
            (Some(runs), _) => Ok(runs),
            (None, Ok(text)) if !text.is_empty() => {
                text.parse().with_context(|| format!("SOAK={text}: it is a number of runs"))
            }
            _ => Ok(RUNS),
        }
    }
}

impl Site {
    /// A busybox, a Debian and an image of the busybox.
    fn new() -> Result<Self> {
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
        let mut build = Command::new(programs::chrootvm()?);
        build.args(["image", "build"]).arg(&busybox).arg("-o").arg(&image);
        ensure!(build.status()?.success(), "image build failed");
        let roots = vec![busybox, testbed::debian(&workspace)?, image];
        let kernel = testbed::kernel(&workspace)?;
        Ok(Self { dir, kernel, roots, warm: AtomicUsize::new(0) })
    }

    /// Kind and command of a run.
    fn command(&self, number: usize) -> Result<(&'static Kind, Command)> {
        let kind = KINDS.get(number % KINDS.len()).context("no kinds")?;
        let root = self.roots.get(number / KINDS.len() % self.roots.len()).context("no roots")?;
        // scripts/chrootvm names the /init of this checkout.
        let mut command = Command::new(workspace::root()?.join("scripts/chrootvm"));
        command.args(["--warm=always", "--timing", "--kernel"]).arg(&self.kernel.image);
        command.arg("--modules").arg(&self.kernel.modules);
        let dir = self.dir.path().to_string_lossy();
        command.args(kind.options.iter().map(|option| option.replace('@', &dir)));
        command.arg(root).args(["--", "sh", "-c"]);
        command.arg(format!("{}; cat; echo err >&2; exit {}", kind.script, number % 100));
        command.env("XDG_CACHE_HOME", self.dir.path().join("cache"));
        command.env("TMPDIR", self.dir.path().join("tmp"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok((kind, command))
    }

    /// Makes one run, and checks its answer.
    fn check(&self, number: usize) -> Result<()> {
        let (kind, mut command) = self.command(number)?;
        let input = vec![b'x'; INPUT];
        let output = answer(command.spawn()?, &input).context(kind.name)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let mut messages = stderr.lines().filter(|line| !line.starts_with("timing: "));
        let is_right = output.status.code() == i32::try_from(number % 100).ok()
            && output.stdout == [kind.says.as_bytes(), &input].concat()
            && messages.next() == Some("err")
            && messages.next().is_none();
        if !is_right {
            bail!("{}: {}, {} bytes, {stderr}", kind.name, output.status, output.stdout.len());
        }
        let is_warm = stderr.lines().any(|line| line.ends_with("(warm)"));
        self.warm.fetch_add(usize::from(is_warm), Ordering::Relaxed);
        Ok(())
    }

    /// Starts a run, and kills it.
    fn kill(&self, number: usize) -> Result<()> {
        let (_, mut command) = self.command(number)?;
        let mut child = command.spawn()?;
        // The golden ratio spreads the moments evenly, however many there are.
        let moment = u32::try_from(number)?.wrapping_mul(0x9e37_79b9);
        std::thread::sleep(SPAN.mul_f64(f64::from(moment) / f64::from(u32::MAX)));
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// No process mentions the site, its temporary directory is empty, and the number of
    /// templates has not grown.
    fn nothing_is_left(&self, before: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = process_that_mentions(self.dir.path())? {
            ensure!(Instant::now() < deadline, "a process is left: {line}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let left = fs::read_dir(self.dir.path().join("tmp"))?.next().transpose()?;
        ensure!(left.is_none(), "a file is left: {left:?}");
        let now = self.stored()?;
        ensure!(
            now <= before,
            "there are {now} templates and unfinished files instead of {before}"
        );
        Ok(())
    }

    /// Number of files in the directory of templates.
    fn stored(&self) -> Result<usize> {
        let store = self.dir.path().join("cache/virtinitrd/warm");
        Ok(fs::read_dir(store)?.count())
    }
}

/// Calls `body` with the numbers below `count`, some at a time.
fn in_parallel(count: usize, body: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            if let Err(error) = body(number) {
                next.store(count, Ordering::Relaxed);
                return Err(error.context(format!("run {number}")));
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(ScopedJoinHandle::join);
        ends.collect::<Vec<_>>().into_iter().try_for_each(|end| match end {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        })
    })
}

/// Writes the input of a run, and waits for its end.
fn answer(mut child: Child, input: &[u8]) -> Result<Output> {
    let mut stdin = child.stdin.take().context("stdin")?;
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().context("wait")
    })
}

/// Command line of a process in which `path` stands.
fn process_that_mentions(path: &Path) -> Result<Option<String>> {
    let path = path.to_string_lossy();
    for entry in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&*path) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}
