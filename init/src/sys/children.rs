//! Child processes: reaping, signalling, and work with a time limit.
//!
//! Interfaces: fork(2), wait(2), kill(2).

use core::ffi::CStr;
use core::time::Duration;

use proto::status::{SIGNALLED, TROUBLE};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::rt;
use crate::sys::wait::{self, Pauses};

/// The file by which a process says how fit it is to be killed for lack of memory (proc(5)).
pub const OOM_SCORE: &CStr = c"/proc/self/oom_score_adj";

/// Reaps all children that have ended, and passes those other than `child` to `other`.
/// Returns the status of `child`, if it has ended, and whether children are left.
pub fn reap(
    child: Option<Pid>,
    other: &mut dyn FnMut(Pid, WaitStatus),
) -> (Option<WaitStatus>, bool) {
    let mut found = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Some(pid) == child => found = Some(status),
            Ok(Some((pid, status))) => other(pid, status),
            Ok(None) => return (found, true),
            Err(_) => return (found, false),
        }
    }
}

/// Sends `signal` to all processes but PID 1, and continues stopped ones.
pub fn signal_all(signal: Signal) {
    for signal in [signal, Signal::CONT] {
        // Group 1 becomes -1 in kill(2), which means all processes. ESRCH: there is no other
        // process.
        let _ = rustix::process::kill_process_group(Pid::INIT, signal);
    }
}

/// Runs `work`, which may block for ever, in a child, and kills the child after
/// `limit`. Returns whether `work` has ended. If fork(2) fails, `work` does not run and
/// the result is false.
pub fn run_within(limit: Duration, work: fn()) -> bool {
    let child = match rt::process::fork() {
        Ok(Some(child)) => child,
        Ok(None) => {
            work();
            rt::exit(0);
        }
        Err(_) => return false,
    };
    for pause in Pauses::within(limit) {
        match rustix::process::waitpid(Some(child), WaitOptions::NOHANG) {
            Ok(None) => wait::sleep(pause),
            // An error: somebody else has waited for the child, so the child has ended.
            Ok(Some(_)) | Err(_) => return true,
        }
    }
    // Do not wait for the child: while it waits for a device, SIGKILL has no effect.
    let _ = rustix::process::kill_process(child, Signal::KILL);
    false
}

/// The exit status of an ended process as a shell has it.
#[must_use]
pub fn shell_status(status: WaitStatus) -> u8 {
    code_or_signal(status.exit_status(), status.terminating_signal())
}

fn code_or_signal(code: Option<i32>, signal: Option<i32>) -> u8 {
    let status = code.or(signal.map(|number| i32::from(SIGNALLED) + number));
    status.and_then(|status| u8::try_from(status).ok()).unwrap_or(TROUBLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first child ends at once and the second never, so the host's load does not
    /// matter.
    #[test]
    fn work_is_waited_for_up_to_its_limit() {
        assert!(run_within(Duration::from_secs(600), || ()));
        let blocks = || loop {
            wait::sleep(Duration::from_secs(1));
        };
        assert!(!run_within(Duration::from_millis(20), blocks));
    }

    #[test]
    fn statuses_are_a_shells() {
        for (code, signal, status) in
            [(Some(0), None, 0), (Some(255), None, 255), (None, Some(9), 137), (None, None, 125)]
        {
            assert_eq!(code_or_signal(code, signal), status);
        }
    }
}
