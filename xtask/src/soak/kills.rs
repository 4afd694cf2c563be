//! Runs that are killed: a seed decides which ones, and when.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::kinds::{Answer, Streams};
use super::left;
use super::site::{Run, Site};
use super::streams::OnTerminal;
use crate::random::Random;

/// A run that starts from a template is killed within this time of its start.
const SPAN: Duration = Duration::from_millis(1500);
/// A run that unpacks its kernel, boots and makes a template is killed within this time.
const SPAN_WITHOUT_TEMPLATE: Duration = Duration::from_secs(3);
/// Of so many kills, one hits a run that makes a template.
const WITHOUT_TEMPLATE: usize = 3;
/// Time in which a command ends after its machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a command.
const PAUSE: Duration = Duration::from_millis(20);

/// A kill.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kill {
    /// Number of the run, which says its kind and its root.
    run: usize,
    cache: Cache,
    after: Duration,
    victim: Victim,
}

/// Contents of the run's cache directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    /// Those that earlier runs left.
    Filled,
    /// None, so that the run makes a template.
    Empty,
}

/// The process that is killed, if a second command enters the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// `chrootvm ROOTFS`.
    First,
    /// `chrootvm exec`.
    Second,
}

/// Makes `count` kills of runs with numbers below `runs`. Equal seeds give equal kills.
pub(super) fn plan(seed: u64, count: usize, runs: usize) -> Vec<Kill> {
    let mut random = Random::new(seed);
    let kills = (0..count).map(|number| {
        let (cache, span) = match (number + 1) % WITHOUT_TEMPLATE {
            0 => (Cache::Empty, SPAN_WITHOUT_TEMPLATE),
            _ => (Cache::Filled, SPAN),
        };
        Kill {
            run: random.below(runs),
            cache,
            after: part(span, [random.byte(), random.byte()]),
            victim: *random.pick(&[Victim::First, Victim::Second]),
        }
    });
    kills.collect()
}

/// A part of `span`: none of it for 0, almost all of it for the highest number.
fn part(span: Duration, number: [u8; 2]) -> Duration {
    span * u32::from(u16::from_be_bytes(number)) / (1 << 16)
}

impl Kill {
    /// Makes kill `number`, and then the same run again, which must be right.
    ///
    /// # Errors
    /// The run after the kill has a wrong answer.
    pub(super) fn make(&self, number: usize, site: &Site) -> Result<()> {
        self.strike_and_check(number, site).with_context(|| format!("{self:?}"))
    }

    fn strike_and_check(&self, number: usize, site: &Site) -> Result<()> {
        let own = site.path(&format!("cache-{number}"));
        let run = site.run(
            self.run,
            match self.cache {
                Cache::Filled => site.cache(),
                Cache::Empty => own.clone(),
            },
        );
        self.strike(&run)?;
        run.check().context("the run after the kill")?;
        if self.cache == Cache::Empty {
            left::check_store(&own, 1)?;
            fs::remove_dir_all(&own).with_context(|| format!("remove {}", own.display()))?;
        }
        Ok(())
    }

    /// Starts the run, and kills it.
    fn strike(&self, run: &Run<'_>) -> Result<()> {
        match run.kind.streams {
            Streams::Pipes => {
                let mut first = run.first().spawn()?;
                std::thread::sleep(self.after);
                end(&mut first)
            }
            Streams::Terminal => {
                let mut first = OnTerminal::start(&run.first())?;
                std::thread::sleep(self.after);
                end(&mut first.child)
            }
            Streams::Exec => self.strike_one_of_two(run),
        }
    }

    /// The second command comes in the middle of the time, whether the machine is up or not.
    fn strike_one_of_two(&self, run: &Run<'_>) -> Result<()> {
        let mut first = run.first().spawn()?;
        std::thread::sleep(self.after / 2);
        let mut second = run.second().stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(self.after / 2);
        match self.victim {
            Victim::First => {
                end(&mut first)?;
                wait(&mut second)
            }
            Victim::Second => {
                end(&mut second)?;
                // Closes the input of the first command, which ends.
                let output = first.wait_with_output()?;
                Answer::of_first(run.status).check(&output).context("the first command")
            }
        }
    }
}

/// Kills a command. It may have ended already.
fn end(child: &mut Child) -> Result<()> {
    child.kill().context("kill")?;
    child.wait().context("wait")?;
    Ok(())
}

/// Waits for a command whose machine was killed.
fn wait(child: &mut Child) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "`chrootvm exec` outlives its machine");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_kills() {
        let (one, again, other) = (plan(1, 99, 18), plan(1, 99, 18), plan(2, 99, 18));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert_eq!(one[..50], plan(1, 50, 18));
        let without = one.iter().filter(|kill| kill.cache == Cache::Empty);
        assert_eq!(without.count(), 33);
        for run in 0..18 {
            assert!(one.iter().any(|kill| kill.run == run), "run {run}");
        }
    }

    #[test]
    fn the_moments_fill_the_span() {
        let kills = plan(7, 999, 18);
        for (cache, span) in [(Cache::Filled, SPAN), (Cache::Empty, SPAN_WITHOUT_TEMPLATE)] {
            let moments = kills.iter().filter(|kill| kill.cache == cache).map(|kill| kill.after);
            let (least, most) = (moments.clone().min().unwrap(), moments.max().unwrap());
            assert!(
                least < span / 20 && most > span / 20 * 19 && most <= span,
                "{least:?} {most:?}"
            );
        }
    }
}
