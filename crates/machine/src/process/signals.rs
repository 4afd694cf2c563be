//! Signals that chrootvm reads from a descriptor, and default actions for signals that its
//! caller ignores.
//!
//! Interfaces: signalfd(2), sigaction(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that ask a program to end.
const ENDS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that report an event and end no program.
const EVENTS: [Signal; 3] = [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGCONT];

/// Descriptor from which signals are read, instead of being delivered.
#[derive(Debug)]
pub struct SignalReader(SignalFd);

impl SignalReader {
    /// Blocks the signals in this thread and in the threads that it starts. A signal that the
    /// caller ignores (nohup(1), a background job of a shell) stays ignored.
    ///
    /// SIGTTOU is blocked too, so that chrootvm can restore the terminal from the background.
    /// With SIGTTIN blocked, reading the terminal from the background fails instead of
    /// stopping chrootvm.
    ///
    /// # Errors
    /// sigprocmask(2) or signalfd(2) failed.
    pub fn block() -> Result<Self> {
        let status = own_status();
        let ends = ENDS.into_iter().filter(|signal| !is_ignored(*signal, &status));
        let watched: SigSet = ends.chain(EVENTS).collect();
        let mut blocked = watched;
        blocked.add(Signal::SIGTTOU);
        blocked.add(Signal::SIGTTIN);
        blocked.thread_block()?;
        Ok(Self(SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The descriptor; it is readable if a signal has arrived.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Signals that have arrived, in their order.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn take(&mut self) -> Result<Vec<Signal>> {
        let mut signals = Vec::new();
        while let Some(info) = self.0.read_signal().context("read signals")? {
            signals.push(Signal::try_from(i32::try_from(info.ssi_signo)?)?);
        }
        Ok(signals)
    }
}

/// Unblocks the signals that ask a program to end. Called when the descriptor is not read
/// any more.
pub fn let_through() {
    let ends: SigSet = ENDS.into_iter().collect();
    let _ = ends.thread_unblock(); // sigprocmask(2) accepts every set
}

/// Whether `signal` asks a program to end.
#[must_use]
pub fn is_end(signal: Signal) -> bool {
    ENDS.contains(&signal)
}

/// Sets an empty handler for each of `signals` that the caller ignores. This program still
/// does nothing on the signal. But execve(2) replaces a handler by the default action, so
/// the programs that it starts do not ignore the signal. A handler for SIGCHLD also makes
/// the kernel keep the exit statuses of children until wait(2).
///
/// # Errors
/// sigaction(2) failed.
pub fn pass_on_defaults(signals: impl IntoIterator<Item = Signal>) -> Result<()> {
    /// Signals that cannot have a handler, and SIGPIPE: Rust ignores it in every program and
    /// restores its default action in each child.
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

/// Whether a process with this `/proc/PID/status` ignores `signal` (`SigIgn`,
/// proc_pid_status(5)).
fn is_ignored(signal: Signal, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_found_in_the_mask() {
        let status = "SigBlk:\t0000000000004002\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(Signal::SIGHUP, status));
        assert!(!is_ignored(Signal::SIGINT, status) && !is_ignored(Signal::SIGTERM, status));
        assert!(!is_ignored(Signal::SIGHUP, ""));
    }
}
