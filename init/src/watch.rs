//! A second pair of eyes on a boot that stands still.
//!
//! A request to a virtiofs whose daemon has gone is never answered, a module's
//! init function may never return, and nothing can interrupt either; only
//! another thread can notice, and end the machine. The thread ends with
//! execve(2), when the payload takes over, or is told to.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use crate::boot;
use crate::error::Name;
use crate::log::Log;
use crate::ports::Ports;
use crate::{rt, wait};

/// How long a step may take beyond what a late device is waited for. It takes
/// milliseconds here; a host under load gets a thousand times that.
const SILENCE: Duration = Duration::from_secs(15);

/// How often is looked.
const TICK: Duration = Duration::from_secs(1);

/// What can stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Step {
    /// All that is between the others.
    Prepare,
    /// One module.
    LoadModule,
    /// mount(2) of a virtiofs root.
    MountRoot,
    /// mount(2) of a root on a disk, which may take its time to replay a
    /// journal.
    MountDisk,
    /// mount(2) of one `mount=` or `mount-ro=`.
    MountShare,
    /// Path look-ups in the root.
    EnterRoot,
    /// execve(2).
    Execute,
}

/// In the order of [`Step`]: what the message says of it.
#[rustfmt::skip]
const STEPS: [&str; 7] = [
    "preparing the boot",
    "loading a module",
    "mounting the root",
    "mounting the root",
    "mounting a share",
    "entering the root",
    "executing the payload",
];

/// What PID 1 is at; only it writes.
static STEP: AtomicUsize = AtomicUsize::new(Step::Prepare as usize);

/// How many steps it has begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// Whether the boot is over, and with it the watch.
static OVER: AtomicBool = AtomicBool::new(false);

/// Ends the watch, where PID 1 stays.
pub fn stop() {
    OVER.store(true, Ordering::Relaxed);
}

/// Whether the boot is over: other programs run, and may have written something.
#[must_use]
pub fn is_over() -> bool {
    OVER.load(Ordering::Relaxed)
}

/// Says what PID 1 does next.
pub fn enter(step: Step) {
    STEP.store(step as usize, Ordering::Relaxed);
    BEGUN.fetch_add(1, Ordering::Relaxed);
}

/// What the watching thread is given.
struct Watch {
    limit: Duration,
    log: &'static Log,
    ports: Option<&'static Ports>,
}

/// Starts watching: where a step takes longer than `wait` and some patience, the
/// machine ends.
///
/// Where no thread can be had the boot goes on unwatched.
pub fn start(wait: Duration, log: &'static Log, ports: Option<&'static Ports>) {
    let watch = Watch { limit: wait + SILENCE, log, ports };
    if let Err(errno) = rt::thread::spawn(run, watch) {
        log.warning(format_args!("the boot is not watched: {}", Name(errno)));
    }
}

fn run(Watch { limit, log, ports }: Watch) {
    let (mut seen, mut idle) = (BEGUN.load(Ordering::Relaxed), Duration::ZERO);
    while idle < limit {
        wait::sleep(TICK);
        if is_over() {
            return;
        }
        let begun = BEGUN.load(Ordering::Relaxed);
        let may_take_long = STEP.load(Ordering::Relaxed) == Step::MountDisk as usize;
        idle = if begun == seen && !may_take_long { idle + TICK } else { Duration::ZERO };
        seen = begun;
    }
    let step = STEPS.get(STEP.load(Ordering::Relaxed)).copied().unwrap_or_default();
    let seconds = limit.as_secs();
    boot::give_up_on_pid_1(
        log,
        ports,
        format_args!(
            "{step}: nothing happens for {seconds} s: the host's virtiofsd has died or hangs, or a \
             module does not return"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_words() {
        assert_eq!(STEPS[Step::LoadModule as usize], "loading a module");
        assert_eq!(STEPS[Step::EnterRoot as usize], "entering the root");
        assert_eq!(STEPS[Step::Execute as usize], "executing the payload");
    }
}
