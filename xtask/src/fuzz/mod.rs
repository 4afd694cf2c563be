//! `cargo xtask fuzz`: gives damaged input to every reader of foreign files.
//!
//! An input is a damaged seed: a file of our own writers, or one of the corpus
//! (`xtask/tests/corpus/TARGET/`), which fuzzing found or a report contained. After the
//! damage, most inputs get correct check sums. An input is made from a number, and can be
//! made again from it. An input that breaks a rule is kept.
//!
//! The rules: no panic, no hang, bounded memory; and an accepted image can be listed, read
//! and written to the end.

mod containerfiles;
mod contexts;
mod documents;
mod guest;
mod input;
mod kernels;
mod layers;
mod mutate;
mod programs;
mod recipes;
mod registries;
mod repair;
mod seeds;
mod steps;
mod targets;
mod templates;
mod trees;
mod worker;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use files::tell;

use self::input::Answer;
use self::mutate::Seed;
use self::targets::{TARGETS, Target};
use crate::workspace;

/// Default of `--seconds`, unless the variable `FUZZ_S` is set.
const SECONDS: u64 = 10;

/// Default number of targets at a time: machines of continuous integration have two
/// processors.
const JOBS: usize = 2;

/// Give damaged input to every reader of foreign files
#[derive(Debug, clap::Args)]
pub struct Fuzz {
    /// Fuzz only this target; repeatable
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// How long each target is fuzzed [default: `FUZZ_S`, or 10]
    #[arg(long)]
    seconds: Option<u64>,
    /// Read this input of one target alone, by its number
    #[arg(long, conflicts_with_all = ["input", "seconds"])]
    seed: Option<u64>,
    /// Read this file alone, as an input of one target
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    input: Option<PathBuf>,
    /// Number of targets at a time
    #[arg(long, default_value_t = JOBS)]
    jobs: usize,
    /// List the targets
    #[arg(long)]
    list: bool,
    /// Number of the first input, for the process that reads them
    #[arg(long, hide = true)]
    worker: Option<u64>,
}

/// Directories of the corpus and of findings.
struct FuzzDirectories {
    corpus: PathBuf,
    /// Inputs that broke a rule.
    found: PathBuf,
}

impl FuzzDirectories {
    fn new() -> Result<Self> {
        let root = workspace::root()?;
        let found = root.join("target/fuzz");
        std::fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
        Ok(Self { corpus: root.join("xtask/tests/corpus"), found })
    }

    /// The file in which a worker of `target` writes the number of its present input.
    fn current(&self, target: &Target) -> PathBuf {
        self.found.join(format!("{}.current", target.name))
    }
}

impl Fuzz {
    /// Fuzzes, or repeats one input.
    ///
    /// # Errors
    /// An input breaks a rule.
    pub fn run(self) -> Result<()> {
        if self.list {
            for target in TARGETS {
                tell::result(format_args!("{:13} {}\n", target.name, target.about))?;
            }
            return Ok(());
        }
        let places = FuzzDirectories::new()?;
        let seconds = self.seconds()?;
        let targets: Vec<_> =
            self.target.iter().map(|name| Target::named(name)).collect::<Result<_>>()?;
        match (&targets[..], self.seed, &self.input) {
            ([target], Some(seed), None) => {
                let seeds = target.seeds(&places.corpus)?;
                read_alone(target, &target.input(&seeds, seed))
            }
            ([target], None, Some(path)) => {
                let input = std::fs::read(path);
                read_alone(target, &input.with_context(|| format!("read {}", path.display()))?)
            }
            (_, Some(_), _) | (_, _, Some(_)) => bail!("--seed and --input need one --target"),
            ([target], None, None) if self.worker.is_some() => {
                work(&places, target, self.worker.unwrap_or_default(), seconds)
            }
            ([], None, None) => self.run_all(&places, TARGETS.iter().collect(), seconds),
            (_, None, None) => self.run_all(&places, targets.into(), seconds),
        }
    }

    fn seconds(&self) -> Result<u64> {
        if let Some(seconds) = self.seconds {
            return Ok(seconds);
        }
        match std::env::var("FUZZ_S") {
            Ok(text) if !text.is_empty() => {
                text.parse().with_context(|| format!("FUZZ_S={text}: it is a number of seconds"))
            }
            _ => Ok(SECONDS),
        }
    }

    /// Runs every target in its own process, some at a time.
    fn run_all(
        &self,
        places: &FuzzDirectories,
        targets: VecDeque<&'static Target>,
        seconds: u64,
    ) -> Result<()> {
        let total = targets.len();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let first = u64::try_from(now.as_micros()).unwrap_or_default() << 20;
        let queue = Mutex::new(targets);
        let next = || queue.lock().ok()?.pop_front();
        let broken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(target) = next() {
                        if let Err(error) = run_one(places, target, first, seconds)
                            && let Ok(mut broken) = broken.lock()
                        {
                            log::error!("{}: {error:#}", target.name);
                            broken.push(target.name);
                        }
                    }
                });
            }
        });
        let broken = broken.into_inner().unwrap_or_default();
        ensure!(broken.is_empty(), "{} of {total} targets: {}", broken.len(), broken.join(", "));
        Ok(())
    }
}

/// Fuzzes `target` in another process.
fn run_one(places: &FuzzDirectories, target: &Target, first: u64, seconds: u64) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let mut worker = Command::new(program);
    worker.args(["fuzz", "--target", target.name]);
    worker.args(["--seconds", &seconds.to_string(), "--worker", &first.to_string()]);
    let status = worker.status().context("start a process")?;
    if status.success() { Ok(()) } else { keep(places, target, status) }
}

/// Keeps the input that ended a worker of `target`.
fn keep(places: &FuzzDirectories, target: &Target, status: ExitStatus) -> Result<()> {
    let (name, current) = (target.name, places.current(target));
    let number = std::fs::read(&current).ok().and_then(|bytes| bytes.first_chunk().copied());
    let Some(number) = number.map(u64::from_le_bytes) else {
        bail!("the process ended before its first input ({status})");
    };
    let input = target.input(&target.seeds(&places.corpus)?, number);
    let path = places.found.join(format!("{name}-{number}"));
    std::fs::write(&path, &input).with_context(|| format!("write {}", path.display()))?;
    bail!(
        "input {number} ended the process ({status}); it is kept in {path}: repeat it by `cargo \
         xtask fuzz --target {name} --input {path}`",
        path = path.display()
    )
}

/// Fuzzes one target in this process.
fn work(places: &FuzzDirectories, target: &Target, first: u64, seconds: u64) -> Result<()> {
    let path = places.current(target);
    // Remove the number of an earlier run: it names another input.
    let _ = std::fs::remove_file(&path); // it may be missing
    let seeds: Vec<Seed> = target.seeds(&places.corpus)?;
    let current = create(&path)?;
    worker::set_bounds()?;
    let count = worker::run(target, &seeds, first, Duration::from_secs(seconds), &current)?;
    let share = count.accepted * 100 / count.inputs.max(1);
    tell::result(format_args!(
        "{:13} {} inputs, {share} % accepted, no rule broken\n",
        target.name, count.inputs
    ))?;
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.with_context(|| format!("make {}", path.display()))
}

fn read_alone(target: &Target, input: &[u8]) -> Result<()> {
    worker::set_bounds()?;
    let answer = match worker::check_alone(target, input)? {
        Answer::Accepted => "accepted",
        Answer::Refused => "refused, which is allowed",
    };
    tell::result(format_args!("{}: {} bytes, {answer}\n", target.name, input.len()))
}
