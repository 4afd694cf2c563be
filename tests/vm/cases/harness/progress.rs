//! The decision whether a boot hangs before `/init` runs.
//!
//! QEMU 7.2 without KVM hangs in the kernel now and then. Such a boot says nothing of
//! virtinitrd, so the harness starts it again. The console tells how far a boot is: up to
//! the execution of `/init` it holds nothing but messages of the kernel, which begin with a
//! time stamp. With `quiet`, as `chrootvm` boots, it is even empty until then.

use std::time::Duration;

use virtinitrd_vm_tests::console::without_timestamp;

/// Longest silence of a console on which nothing shows that `/init` runs. A boot takes 3 s
/// here until then, also under `quiet`; a host under load gets more.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(90);

/// Kernel message about a processor that is stuck in the kernel (`watchdog_timer_fn()` of
/// `kernel/watchdog.c`).
const LOCKUP: &str = "watchdog: BUG: soft lockup - CPU#";

/// Beginnings of messages with a time stamp that the kernel logs once it executes `/init`,
/// or once a boot ends. `kernel_init()` of `init/main.c` logs the first unless `quiet` is
/// given.
const MARKS: &[&str] = &["Run /init", "virtinit: ", "reboot: ", "Kernel panic"];

/// Progress of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootProgress {
    /// The kernel still boots.
    Kernel,
    /// The kernel has hung before `/init` said anything.
    Hung,
    /// `/init` or the payload has said something, or the machine ends.
    InitRuns,
}

/// Tells from the text of the console, and from how long it has been silent, how far a boot
/// is. The first line that decides wins: no message can turn a boot that has reached `/init`
/// into a hung one.
pub(crate) fn progress(console: &str, silence: Duration, limit: Duration) -> BootProgress {
    let decision = console.split_inclusive('\n').find_map(|line| match line {
        line if line.contains(LOCKUP) => Some(BootProgress::Hung),
        line if shows_init(line) => Some(BootProgress::InitRuns),
        _ => None,
    });
    let from_silence = if silence < limit { BootProgress::Kernel } else { BootProgress::Hung };
    decision.unwrap_or(from_silence)
}

/// Whether the line shows that `/init` runs or has run.
fn shows_init(line: &str) -> bool {
    let text = without_timestamp(line);
    let is_message = text.len() < line.len();
    // The rest of a message may still be under way.
    let is_partial = line.starts_with('[') && !line.ends_with('\n');
    match is_message || is_partial {
        true => MARKS.iter().any(|mark| text.starts_with(mark)),
        false => !text.trim_end().is_empty(),
    }
}
