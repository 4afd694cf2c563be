//! A second pair of eyes on what a dead virtiofsd can block for ever.
//!
//! A request to a virtiofs whose daemon has gone is never answered, and nothing
//! can interrupt it; only another thread can notice, and end the machine. The
//! thread ends with execve(2), when the payload takes over.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use crate::boot;
use crate::log::Log;
use crate::report::Report;
use crate::{rt, wait};

/// How long virtiofs may be silent beyond what a late device is waited for. A
/// boot takes milliseconds here; a host under load gets a thousand times that.
const SILENCE: Duration = Duration::from_secs(15);

/// What can block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Step {
    /// mount(2) of the root.
    MountRoot,
    /// mount(2) of `mount=` and `mount-ro=`.
    MountShares,
    /// Path look-ups in the root.
    EnterRoot,
    /// execve(2).
    Execute,
}

/// In the order of [`Step`], as the message has it.
const STEPS: [&str; 4] =
    ["mounting the root", "mounting a share", "entering the root", "executing the payload"];

/// What PID 1 is at; only it writes.
static STEP: AtomicUsize = AtomicUsize::new(0);

/// Says what PID 1 does next.
pub fn enter(step: Step) {
    STEP.store(step as usize, Ordering::Relaxed);
}

/// What the watching thread owns.
struct Watch {
    limit: Duration,
    log: Log,
    report: Option<Report>,
}

/// Starts watching: if this process has not become the payload after `wait` and
/// some patience, the machine ends.
///
/// Where no thread can be had the boot goes on unwatched.
pub fn start(wait: Duration) {
    let mut log = Log::console();
    log.attach_kmsg();
    let watch = Watch { limit: wait + SILENCE, log, report: Report::prepare().ok() };
    if let Err(errno) = rt::thread::spawn(run, watch) {
        Log::console()
            .warning(format_args!("no watch on virtiofs: errno {}", errno.raw_os_error()));
    }
}

fn run(Watch { limit, log, report }: Watch) {
    wait::sleep(limit);
    let step = STEPS.get(STEP.load(Ordering::Relaxed)).copied().unwrap_or_default();
    let seconds = limit.as_secs();
    boot::give_up_on_pid_1(
        &log,
        report.as_ref(),
        format_args!(
            "{step}: no answer in {seconds} s: the host's virtiofsd has died or hangs; see its log"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_words() {
        assert_eq!(STEPS[Step::MountRoot as usize], "mounting the root");
        assert_eq!(STEPS[Step::Execute as usize], "executing the payload");
    }
}
