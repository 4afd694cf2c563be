//! The processes below PID 1.
//!
//! Interfaces: wait(2), kill(2).

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// Reaps every child that has ended; the status of `child`, if it was among them.
/// False where no child is left. Of the others `other` hears.
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

/// Sends `signal` to all processes but PID 1, and lets those go on that are
/// stopped.
pub fn signal_all(signal: Signal) {
    for signal in [signal, Signal::CONT] {
        // As a process group, 1 stands for all processes (kill(2)). ESRCH: there
        // is none.
        let _ = rustix::process::kill_process_group(Pid::INIT, signal);
    }
}
