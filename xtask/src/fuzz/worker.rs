//! One target, one input after the other, in a process whose time and memory have
//! bounds.
//!
//! Interfaces: getrusage(2), setrlimit(2). If a panic that aborts, a full stack or
//! [`watch`] ends the process, the number of its input is left in a file. The process
//! that started it makes the input again from that number.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::time::TimeValLike;

use super::input::Answer;
use super::mutate::Seed;
use super::targets::Target;

/// Processor time that one input may take; other work of the host does not count.
const CPU_MAX: Duration = Duration::from_secs(10);

/// Time that one input may take, waiting included.
const WALL_MAX: Duration = Duration::from_secs(120);

/// Bytes by which the memory in use may grow. The readers' own bounds are below it: a
/// window of zstd or xz has 128 MiB.
const MEMORY_MAX: u64 = 512 << 20;

/// Bytes of address space, where allocations count even if they are never used.
const SPACE_MAX: u64 = 4 << 30;

/// Pause between two looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// When the present input began, in milliseconds: processor time of this process, and
/// time since its start.
static BEGAN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Result of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// Inputs.
    pub(super) inputs: u64,
    /// Those that made sense.
    pub(super) accepted: u64,
}

/// Sets the bounds of this process, which does nothing but read inputs.
///
/// # Errors
/// The kernel's.
pub(super) fn set_bounds() -> Result<()> {
    setrlimit(Resource::RLIMIT_AS, SPACE_MAX, SPACE_MAX).context("bound the address space")?;
    // The input tells more than a core of gigabytes.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("forbid core files")?;
    let start = Instant::now();
    begin(start)?;
    std::thread::Builder::new().spawn(move || watch(start)).context("start a thread")?;
    Ok(())
}

/// Aborts the process if an input takes too long.
fn watch(start: Instant) {
    loop {
        std::thread::sleep(TICK);
        let [cpu, wall] = BEGAN.each_ref().map(|began| began.load(Ordering::Relaxed));
        let spent = cpu_millis().unwrap_or_default().saturating_sub(cpu);
        let waited = millis(start.elapsed()).saturating_sub(wall);
        if spent > millis(CPU_MAX) || waited > millis(WALL_MAX) {
            log::error!("an input takes longer than {CPU_MAX:?} of the processor, or {WALL_MAX:?}");
            std::process::abort();
        }
    }
}

fn begin(start: Instant) -> Result<()> {
    BEGAN[1].store(millis(start.elapsed()), Ordering::Relaxed);
    BEGAN[0].store(cpu_millis()?, Ordering::Relaxed);
    Ok(())
}

fn cpu_millis() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?;
    let millis = usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds();
    Ok(u64::try_from(millis)?)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Most bytes of memory that were in use at once, up to now.
fn peak() -> Result<u64> {
    let kilobytes = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?.max_rss();
    Ok(u64::try_from(kilobytes)? << 10)
}

/// Reads inputs from number `first` on, for so long; the number of each is in
/// `current` while it is read.
///
/// # Errors
/// The first input that breaks a rule.
pub(super) fn run(
    target: &Target,
    seeds: &[Seed],
    first: u64,
    time: Duration,
    current: &File,
) -> Result<Count> {
    let start = Instant::now();
    let mut count = Count::default();
    // Undamaged inputs first: the memory that they take is always taken.
    for seed in seeds {
        check(target, seed.bytes(), u64::MAX)?;
    }
    let most = peak()? + MEMORY_MAX;
    let mut number = first;
    while start.elapsed() < time {
        current.write_all_at(&number.to_le_bytes(), 0).context("write the input's number")?;
        let input = target.input(seeds, number);
        begin(start)?;
        let answer = check(target, &input, most).with_context(|| format!("input {number}"))?;
        count.inputs += 1;
        count.accepted += u64::from(answer == Answer::Accepted);
        number = number.wrapping_add(1);
    }
    Ok(count)
}

/// Reads one input.
///
/// # Errors
/// A rule is broken: a panic, more than `most` bytes of memory, or one of the target's.
pub(super) fn check(target: &Target, input: &[u8], most: u64) -> Result<Answer> {
    let checked = std::panic::catch_unwind(|| (target.check)(input));
    let answer = checked.unwrap_or_else(|_| Err(anyhow!("{} panics", target.name)))?;
    let peak = peak()?;
    if peak > most {
        bail!("{} MiB of memory", peak >> 20);
    }
    Ok(answer)
}

/// As [`check`], of one input alone.
///
/// # Errors
/// As there.
pub(super) fn check_alone(target: &Target, input: &[u8]) -> Result<Answer> {
    check(target, input, peak()? + MEMORY_MAX)
}
