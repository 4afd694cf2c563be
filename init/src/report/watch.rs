//! A watchdog for a boot that hangs.
//!
//! A virtiofs request is never answered if the host's daemon has died, a module's init
//! function may never return, and nothing can interrupt either. Only another thread can
//! notice and end the machine. execve(2) of the payload ends that thread; if PID 1 stays,
//! [`stop`] does.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use crate::report::log;
use crate::rt;
use crate::sys::error::ErrnoName;
use crate::sys::wait;

/// Time limit of a step, in addition to `virtinit.wait=`. A step normally takes milliseconds;
/// on a host under load, it may take a thousand times as long.
const PATIENCE: Duration = Duration::from_secs(15);

/// Time between two looks of the thread at the current step.
const TICK: Duration = Duration::from_secs(1);

/// A step of the boot that may hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum BootStep {
    /// Anything between the others.
    Prepare,
    /// Loading one module.
    LoadModule,
    /// mount(2) of a virtiofs root.
    MountRoot,
    /// mount(2) of a disk, which may take long to replay a journal.
    MountDisk,
    /// mount(2) of one share or volume.
    MountShare,
    /// The wait for orders, which has no limit.
    Wait,
    /// The end of the process that rehearses.
    Rehearse,
    /// Path look-ups in the root.
    EnterRoot,
    /// execve(2) of the payload.
    Execute,
}

/// Words for the message about a step, in the order of [`BootStep`].
#[rustfmt::skip]
const STEPS: [&str; 9] = [
    "preparing the boot",
    "loading a module",
    "mounting the root",
    "mounting the root",
    "mounting a share",
    "waiting for orders",
    "rehearsing",
    "entering the root",
    "executing the payload",
];

/// The current step of PID 1, which alone writes it.
static STEP: AtomicUsize = AtomicUsize::new(BootStep::Prepare as usize);

/// Number of steps that PID 1 has begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// Whether the boot is over, and the watch with it.
static OVER: AtomicBool = AtomicBool::new(false);

/// Ends the machine with a message.
pub type GiveUp = fn(fmt::Arguments<'_>) -> !;

/// Argument of the watching thread.
struct Watch {
    limit: Duration,
    give_up: GiveUp,
}

/// Starts the watch. If a step takes 15 seconds longer than `wait`, the thread calls
/// `give_up`. If no thread can be made, the boot goes on unwatched.
pub fn start(wait: Duration, give_up: GiveUp) {
    if let Err(errno) = rt::thread::spawn(run, Watch { limit: wait + PATIENCE, give_up }) {
        log::warn!("the boot is not watched: {}", ErrnoName(errno));
    }
}

/// Tells the watch that PID 1 begins `step`.
pub fn enter(step: BootStep) {
    STEP.store(step as usize, Ordering::Relaxed);
    BEGUN.fetch_add(1, Ordering::Relaxed);
}

/// Ends the watch because the boot is over and PID 1 stays.
pub fn stop() {
    OVER.store(true, Ordering::Relaxed);
}

/// Whether the boot is over: other programs run, and may have written files.
#[must_use]
pub fn is_over() -> bool {
    OVER.load(Ordering::Relaxed)
}

fn run(Watch { limit, give_up }: Watch) {
    let (mut seen, mut idle) = (BEGUN.load(Ordering::Relaxed), Duration::ZERO);
    while idle < limit {
        wait::sleep(TICK);
        if is_over() {
            return;
        }
        let begun = BEGUN.load(Ordering::Relaxed);
        let step = STEP.load(Ordering::Relaxed);
        let may_take_long =
            [BootStep::MountDisk, BootStep::Wait].iter().any(|&row| row as usize == step);
        idle = if begun == seen && !may_take_long { idle + TICK } else { Duration::ZERO };
        seen = begun;
    }
    let step = STEPS.get(STEP.load(Ordering::Relaxed)).copied().unwrap_or_default();
    let seconds = limit.as_secs();
    give_up(format_args!(
        "{step}: nothing happens for {seconds} s: the host's virtiofsd has died or hangs, or a \
         module does not return"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_words() {
        assert_eq!(STEPS[BootStep::LoadModule as usize], "loading a module");
        assert_eq!(STEPS[BootStep::EnterRoot as usize], "entering the root");
        assert_eq!(STEPS[BootStep::Execute as usize], "executing the payload");
    }
}
