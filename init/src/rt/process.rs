//! Processes and signals: what only C's side of the kernel interface offers.
//!
//! Interfaces: clone(2), clock_gettime(2), signalfd(2), pthread_sigmask(3).
//!
//! # Safety
//! Structures are zeroed, for which all-zero is a value, and only live for one
//! call.

#![allow(unsafe_code)]

use core::time::Duration;
use core::{mem, ptr};

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

fn last_errno() -> Errno {
    // SAFETY: the location is this thread's own and always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// fork(2), by clone(2) with no flags: the child's id in the parent, `None` in
/// the child.
///
/// Only the calling thread goes on in the child. What it may use there has no
/// locks: the allocator and system calls.
pub fn fork() -> Result<Option<Pid>, Errno> {
    const NONE: libc::c_long = 0;
    // SAFETY: a copy of everything, stack included, is made, so the child may
    // return from here. musl is not told, but all that it keeps of a process
    // are its threads and their locks: the child makes no thread, and calls
    // nothing of musl's that locks.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(libc::SIGCHLD), NONE, NONE, NONE, NONE)
    };
    match i32::try_from(pid) {
        Ok(pid @ 0..) => Ok(Pid::from_raw(pid)),
        _ => Err(last_errno()),
    }
}

/// Time since the kernel's start (`CLOCK_MONOTONIC`).
///
/// By the system call itself: rustix and musl would each bring a reader of the
/// vDSO, for a question that is asked a few times in a boot.
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

/// Ends the calling thread, and no other (`_exit(2)`, "C library/kernel
/// differences").
pub fn end_thread() -> ! {
    loop {
        // SAFETY: the call has no preconditions; it does not return.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Blocks every signal in this thread. Blocked, SIGPIPE and SIGTERM end nobody.
pub fn hold_signals() {
    // SAFETY: the set is initialised by sigfillset; the call cannot fail for it
    // is given valid arguments.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// A descriptor that is readable once a signal has come for which `wanted` is true. The
/// signals must be held ([`hold_signals`]).
pub fn signals(wanted: &dyn Fn(libc::c_int) -> bool) -> Result<OwnedFd, Errno> {
    /// Highest number of a signal (`_NSIG` of x86 and Arm).
    const LAST: libc::c_int = 64;
    // SAFETY: the set is initialised by the calls it is passed to, and the
    // descriptor is new and nobody else's.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in (1..=LAST).filter(|signal| wanted(*signal)) {
            // Fails for the signals that the C library uses itself.
            libc::sigaddset(&raw mut set, signal);
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(last_errno()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Unblocks every signal, as a new program expects it.
pub fn unblock_signals() {
    // SAFETY: the set is initialised by sigemptyset; the call cannot fail for
    // it is given valid arguments.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
