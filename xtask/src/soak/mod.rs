//! `cargo xtask soak`: many warm runs, four at a time, and SIGKILLs among them.
//!
//! | Module | Content |
//! |---|---|
//! | `kinds` | kinds of runs, and their answers; pure |
//! | `site` | roots, caches, and the runs with them |
//! | `streams` | pipes and terminals of commands |
//! | `kills` | runs that are killed, by a seed |
//! | `left` | processes and files that are left at the end |
//!
//! Each run's answer is checked, also that of the run after a kill.

mod kills;
mod kinds;
mod left;
mod site;
mod streams;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use files::tell;

use site::Site;

/// Runs at a time.
const JOBS: usize = 4;
/// Default number of runs, unless the variable `SOAK` is set.
const RUNS: usize = 1000;
/// Default number of runs that are killed.
const KILLS: usize = 50;

/// Run commands in warm machines, many times, and check each answer
#[derive(Debug, clap::Args)]
pub struct Soak {
    /// Number of runs [default: `SOAK`, or 1000]
    #[arg(long)]
    runs: Option<usize>,
    /// Number of runs that are killed at any moment
    #[arg(long, default_value_t = KILLS)]
    kills: usize,
    /// Seed of the kills, which an earlier soak has printed [default: a random one]
    #[arg(long)]
    seed: Option<u64>,
}

impl Soak {
    /// Runs them all.
    ///
    /// # Errors
    /// An answer is wrong, or something is left.
    pub fn run(self) -> Result<()> {
        let runs = self.runs()?;
        // `RandomState` has random keys.
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        log::info!("soak: the kills have the seed {seed}");
        let start = Instant::now();
        let warm = soak(runs, self.kills, seed).with_context(|| {
            format!("repeat with --runs {runs} --kills {} --seed {seed}", self.kills)
        })?;
        let (kills, seconds) = (self.kills, start.elapsed().as_secs());
        tell::result(format_args!(
            "soak: {runs} runs and {kills} kills (seed {seed}) in {seconds} s; {warm} machines \
             were warm\n"
        ))
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

/// Makes `runs` runs, then `kills` kills. Returns the number of machines that were warm.
fn soak(runs: usize, kills: usize, seed: u64) -> Result<usize> {
    let site = Site::new()?;
    let before = left::shared_memory()?;
    let check = |number| site.run(number, site.cache()).check();
    let each_combination = |when: &str| {
        let mut numbers = 0..site.combinations();
        numbers.try_for_each(|number| check(number).with_context(|| format!("{when} {number}")))
    };
    // These runs make the templates.
    each_combination("first run")?;
    in_parallel(runs, |number| check(number).with_context(|| format!("run {number}")))?;
    let plan = kills::plan(seed, kills, site.combinations());
    in_parallel(plan.len(), |number| {
        plan[number].make(number, &site).with_context(|| format!("kill {number}"))
    })?;
    each_combination("last run")?;
    left::check(&site, kills, &before)?;
    Ok(site.warm())
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
                return Err(error);
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
