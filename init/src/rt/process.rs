//! Processes and signals: system calls that rustix does not offer safely.
//!
//! Interfaces: clone(2), clock_gettime(2), signalfd(2), pthread_sigmask(3).
//!
//! # Safety
//! All structures are valid when zeroed, and live for one call only.

#![allow(unsafe_code)]

use core::time::Duration;
use core::{mem, ptr};

use proto::signal::is_valid;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::last_errno;

/// fork(2), as clone(2) without flags. Returns the child's id in the parent, and `None` in
/// the child.
///
/// The child has only the calling thread. It may use the allocator and system calls, which
/// have no locks.
pub fn fork() -> Result<Option<Pid>, Errno> {
    const NONE: libc::c_long = 0;
    const FLAGS: libc::c_long = libc::SIGCHLD as libc::c_long;
    /// Flags and stack; the kernel of s390x takes them in the other order.
    const FIRST: [libc::c_long; 2] =
        if cfg!(target_arch = "s390x") { [NONE, FLAGS] } else { [FLAGS, NONE] };
    // SAFETY: the child gets a copy of all memory, the stack included, so it may return from
    // here. musl does not know of the child, but musl only records threads and their locks:
    // the child makes no thread, and calls no function of musl that locks.
    let pid = unsafe { libc::syscall(libc::SYS_clone, FIRST[0], FIRST[1], NONE, NONE, NONE) };
    match i32::try_from(pid) {
        Ok(pid @ 0..) => Ok(Pid::from_raw(pid)),
        _ => Err(last_errno()),
    }
}

/// Time since the kernel's start (`CLOCK_MONOTONIC`).
///
/// A direct system call: rustix and musl would each add a reader of the vDSO, and a boot asks
/// only a few times.
#[must_use]
pub fn uptime() -> Duration {
    // The kernel's struct timespec.
    let mut now: [libc::c_long; 2] = [0; 2];
    // SAFETY: `now` is writable and lives through the call, which cannot fail
    // for this clock.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) };
    let [seconds, nanos] = now.map(|number| u64::try_from(number).unwrap_or(0));
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// The uptime after another `pause`.
#[must_use]
#[inline(never)] // one copy instead of one at each call
pub fn uptime_after(pause: Duration) -> Duration {
    uptime().saturating_add(pause)
}

/// The time until the uptime `deadline`; 0 if it has passed.
#[must_use]
#[inline(never)] // as above
pub fn time_until(deadline: Duration) -> Duration {
    deadline.saturating_sub(uptime())
}

/// Ends the calling thread only (_exit(2), "C library/kernel differences").
pub fn end_thread() -> ! {
    loop {
        // SAFETY: the call has no preconditions; it does not return.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Blocks every signal in this thread, so that SIGPIPE and SIGTERM do not end the process.
pub fn hold_signals() {
    // SAFETY: the set is initialised by sigfillset. The call cannot fail, because its
    // arguments are valid.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// A signalfd(2) for all signals for which `wanted` is true. The signals must be blocked
/// ([`hold_signals`]).
pub fn signals(wanted: &dyn Fn(libc::c_int) -> bool) -> Result<OwnedFd, Errno> {
    /// Highest number of a signal (`_NSIG`).
    const LAST: libc::c_int = 64;
    // SAFETY: the set is initialised by the calls to which it is passed; the descriptor is
    // new and has no other owner.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in (1..=LAST).filter(|signal| wanted(*signal)) {
            // This fails for signals that the C library reserves for itself.
            libc::sigaddset(&raw mut set, signal);
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(last_errno()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The signal of this number; `None` if there is no such signal. rustix itself names no
/// real-time signal.
#[must_use]
pub fn signal(number: u8) -> Option<Signal> {
    // SAFETY: the number is that of a signal, and not of one that glibc and musl keep for
    // their threads (32 and 33).
    is_valid(number).then(|| unsafe { Signal::from_raw_unchecked(number.into()) })
}

/// Unblocks every signal, as a new program expects it.
pub fn unblock_signals() {
    // SAFETY: the set is initialised by sigemptyset. The call cannot fail, because its
    // arguments are valid.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
