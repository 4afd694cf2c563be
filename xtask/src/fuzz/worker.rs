//! Fuzzes one target in a process with bounded time and memory.
//!
//! Interfaces: getrusage(2), setrlimit(2). A panic that aborts, a stack overflow or
//! [`watch`] may end the process. A file then has the number of its last input, from
//! which the parent process makes the input again.

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

/// Longest processor time for one input. Unlike [`WALL_MAX`], it does not depend on other
/// work of the host.
const CPU_MAX: Duration = Duration::from_secs(10);

/// Longest time for one input, with waiting.
const WALL_MAX: Duration = Duration::from_secs(120);

/// Largest growth of the memory in use, in bytes. The limits of the readers are smaller:
/// a window of zstd or xz has 128 MiB.
const MEMORY_MAX: u64 = 512 << 20;

/// Largest address space, in bytes. Allocations count even if they are never used.
const SPACE_MAX: u64 = 4 << 30;

/// Interval at which [`watch`] looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// Start of the present input, in milliseconds: processor time of this process, and time
/// since its start.
static BEGAN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Numbers of inputs of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InputCount {
    /// All inputs.
    pub(super) inputs: u64,
    /// Inputs that the reader accepted.
    pub(super) accepted: u64,
}

/// Sets the bounds of this process. Afterwards it only reads inputs.
///
/// # Errors
/// Those of setrlimit(2), getrusage(2) and of starting a thread.
pub(super) fn set_bounds() -> Result<()> {
    setrlimit(Resource::RLIMIT_AS, SPACE_MAX, SPACE_MAX).context("bound the address space")?;
    // The kept input is enough to find a fault; a core file has gigabytes.
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

/// Peak of the memory in use, in bytes.
fn peak() -> Result<u64> {
    let kilobytes = getrusage(UsageWho::RUSAGE_SELF).context("getrusage")?.max_rss();
    Ok(u64::try_from(kilobytes)? << 10)
}

/// Reads inputs for the time `time`, beginning with number `first`. While an input is
/// read, `current` contains its number.
///
/// # Errors
/// An input breaks a rule; it is the last one that was read.
pub(super) fn run(
    target: &Target,
    seeds: &[Seed],
    first: u64,
    time: Duration,
    current: &File,
) -> Result<InputCount> {
    let start = Instant::now();
    let mut count = InputCount::default();
    // Read the undamaged seeds first, so that their memory is part of the base.
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
/// The input breaks a rule: the reader panics, takes more than `most` bytes of memory, or
/// breaks a rule of the target.
pub(super) fn check(target: &Target, input: &[u8], most: u64) -> Result<Answer> {
    let checked = std::panic::catch_unwind(|| (target.check)(input));
    let answer = checked.unwrap_or_else(|_| Err(anyhow!("{} panics", target.name)))?;
    let peak = peak()?;
    if peak > most {
        bail!("{} MiB of memory", peak >> 20);
    }
    Ok(answer)
}

/// Reads one input alone, with the usual limit of memory.
///
/// # Errors
/// Those of [`check`].
pub(super) fn check_alone(target: &Target, input: &[u8]) -> Result<Answer> {
    check(target, input, peak()? + MEMORY_MAX)
}
