//! Processes and signals: what only C's side of the kernel interface offers.
//!
//! Interfaces: fork(2), signalfd(2), pthread_sigmask(3).
//!
//! # Safety
//! Structures are zeroed, for which all-zero is a value, and only live for one
//! call.

#![allow(unsafe_code)]

use core::{mem, ptr};

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;

fn last_errno() -> Errno {
    // SAFETY: the location is this thread's own and always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// fork(2): the child's id in the parent, `None` in the child.
///
/// Only the calling thread goes on in the child. What it may use there has no
/// locks: the allocator and system calls.
pub fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: see above; musl's own locks are taken care of by its fork.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        pid => Ok(Pid::from_raw(pid)),
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

/// A descriptor that is readable when a child has ended; needs the signals to be
/// held.
pub fn child_signals() -> Result<OwnedFd, Errno> {
    // SAFETY: the set is initialised by the calls it is passed to, and the
    // descriptor is new and nobody else's.
    unsafe {
        let mut child: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        match libc::signalfd(-1, &raw const child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
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
