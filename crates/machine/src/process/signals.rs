//! The signals that concern a run, as a descriptor; and defaults for signals that the
//! caller ignores.
//!
//! Interfaces: signalfd(2), sigaction(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Those that ask a program to end.
const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Those that tell something, and end nobody.
const NEWS: [Signal; 3] = [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGCONT];

/// Signals that are read instead of delivered.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks them in this thread and those that it starts. One that our caller
    /// ignores (nohup(1), a shell's background job) stays ignored. SIGTTOU is
    /// held back too: a background process may then still restore the terminal;
    /// and SIGTTIN: to read it fails there instead of stopping us.
    pub fn block() -> Result<Self> {
        let status = own_status();
        let ends = ENDS.into_iter().filter(|signal| !is_ignored(*signal, &status));
        let watched: SigSet = ends.chain(NEWS).collect();
        let mut blocked = watched;
        blocked.add(Signal::SIGTTOU);
        blocked.add(Signal::SIGTTIN);
        blocked.thread_block()?;
        Ok(Self(SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Readable when there are some.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Those that have come, in order.
    pub fn take(&mut self) -> Result<Vec<Signal>> {
        let mut signals = Vec::new();
        while let Some(info) = self.0.read_signal().context("read signals")? {
            signals.push(Signal::try_from(i32::try_from(info.ssi_signo)?)?);
        }
        Ok(signals)
    }
}

/// Unblocks the signals that ask a program to end: nobody reads the descriptor any
/// more.
pub fn let_through() {
    let ends: SigSet = ENDS.into_iter().collect();
    let _ = ends.thread_unblock(); // sigprocmask(2) fails for no set
}

/// Whether a signal asks us to end.
#[must_use]
pub fn is_end(signal: Signal) -> bool {
    ENDS.contains(&signal)
}

/// Sets an empty handler for each of `signals` that our caller ignores. This program
/// still ignores the signal, but execve(2) replaces a handler by the default, so the
/// programs that we start do not ignore it. With SIGCHLD the kernel also keeps the
/// statuses of our children until we wait for them (wait(2)).
pub fn pass_on_defaults(signals: impl IntoIterator<Item = Signal>) -> Result<()> {
    /// Signals that cannot have such a handler; and SIGPIPE, which Rust ignores in
    /// every program and resets to its default in each child.
    const LEFT: [Signal; 6] = [
        Signal::SIGKILL,
        Signal::SIGSTOP,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGSEGV,
        Signal::SIGPIPE,
    ];
    let status = own_status();
    for signal in signals {
        if is_ignored(signal, &status) && !LEFT.contains(&signal) {
            signal_hook::flag::register(signal as i32, Arc::new(AtomicBool::new(false)))
                .with_context(|| format!("handle {signal}"))?;
        }
    }
    Ok(())
}

/// Text of /proc/self/status; empty if /proc is not mounted.
fn own_status() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Whether `SigIgn` of a `/proc/PID/status` has the signal (proc_pid_status(5)).
fn is_ignored(signal: Signal, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_in_the_mask() {
        let status = "SigBlk:\t0000000000004002\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(Signal::SIGHUP, status));
        assert!(!is_ignored(Signal::SIGINT, status) && !is_ignored(Signal::SIGTERM, status));
        assert!(!is_ignored(Signal::SIGHUP, ""));
    }
}
