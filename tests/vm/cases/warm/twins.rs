//! Machines of one template are no twins: their random numbers differ, and their clocks are right.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::site::{Site, Start};
use crate::harness::command_run::FinishedCommand;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("clones_differ", clones_differ),
];

/// Number of machines; two run at a time.
const CLONES: usize = 10;

/// Prints a line for each value: of the kernel, of the pool, AT_RANDOM and the stack of the shell
/// (auxv is an array of pairs; getauxval(3), AT_RANDOM is 25), and the time.
const VALUES: &str = r"
    cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid
    head -c 32 /dev/urandom | od -A n -v -t x1 -w32
    set -- $(od -A n -v -t d8 -w16 /proc/$$/auxv | awk '$1 == 25 {print $2}')
    dd if=/proc/$$/mem bs=1 skip=$1 count=16 2>/dev/null | od -A n -v -t x1
    grep stack /proc/$$/maps
    date +%s";

/// Number of values before the time.
const DISTINCT: usize = 5;

/// Seconds by which the clock of a guest may be behind: its orders hold the time at which they
/// were written, and `date` cuts off the fraction.
const BEHIND: u64 = 1;

fn clones_differ(bed: &Bed) -> Result<()> {
    let site = Site::new(bed)?;
    let mut seen = HashSet::new();
    let first_before = now()?;
    check(site.sh(&[], VALUES)?.finish()?, first_before, Start::Cold, &mut seen)?;
    for _ in 0..CLONES / 2 {
        let before = now()?;
        let one = site.sh(&[], VALUES)?.start()?;
        let other = site.sh(&[], VALUES)?.start()?;
        check(one.finish()?, before, Start::Warm, &mut seen)?;
        check(other.finish()?, before, Start::Warm, &mut seen)?;
    }
    ensure!(seen.len() == (CLONES + 1) * DISTINCT, "{} values: {seen:#?}", seen.len());
    Ok(())
}

/// Notes the values of a run, none of which any run has shown before.
fn check(
    mut finished: FinishedCommand,
    before: u64,
    start: Start,
    seen: &mut HashSet<String>,
) -> Result<()> {
    let after = now()?;
    let timing = finished.take_timing().unwrap_or_default();
    let is_warm = timing.ends_with("(warm)");
    ensure!(is_warm == (start == Start::Warm), "expected: {start:?}, got: {timing}");
    let stdout = String::from_utf8_lossy(finished.stdout()).into_owned();
    let lines: Vec<_> = stdout.lines().map(str::trim).collect();
    if lines.len() != DISTINCT + 1 || finished.status != 0 {
        return Err(finished.failure("not all values"));
    }
    let (date, values) = lines.split_last().context("no lines")?;
    for value in values {
        ensure!(seen.insert((*value).to_owned()), "twins: {value} is in {seen:#?}");
    }
    let date: u64 = date.parse().with_context(|| format!("read {date}"))?;
    ensure!((before - BEHIND..=after).contains(&date), "{date} is not in {before}..={after}");
    Ok(())
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
