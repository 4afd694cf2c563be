//! All unsafe code of the guest: start-up, allocator, threads and calls of the C library.
//!
//! Interfaces: environ(7), execve(2). `start.rs` belongs to the binary: it has the entry
//! point, the allocator and the panic handler. Imports no other room.
//!
//! # Safety
//! Callers need only safe Rust: no pointer leaves this room.

#![allow(unsafe_code)]

pub mod heap;
pub mod ifreq;
pub mod once;
pub mod pool;
pub mod process;
pub mod thread;

use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use core::ptr;

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// The environment that the kernel gave PID 1: `KEY=VALUE` strings.
pub type Environment = Vec<&'static CStr>;

/// Collects a C `envp`.
///
/// # Safety
/// `envp` is null, or an array of pointers to NUL-terminated strings that ends
/// with a null pointer; array and strings live, unchanged, as long as the
/// process.
#[must_use]
pub unsafe fn environment(envp: *const *const c_char) -> Environment {
    let mut strings = Vec::new();
    let mut next = envp;
    // SAFETY: `next` starts at the array and stops at its null pointer; the
    // caller vouches for both, and for the strings.
    unsafe {
        while !next.is_null() && !(*next).is_null() {
            strings.push(CStr::from_ptr(*next));
            next = next.add(1);
        }
    }
    strings
}

/// execve(2): on success it does not return.
#[must_use]
pub fn exec(path: &CStr, argv: &[&CStr], envp: &[&CStr]) -> Errno {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both arrays end with a null pointer, their strings are
    // NUL-terminated by type, and all of them outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_errno()
}

/// `strings` as a C array, which ends with a null pointer.
#[inline(never)]
fn pointers(strings: &[&CStr]) -> Vec<*const c_char> {
    let mut pointers = Vec::new();
    for string in strings {
        pointers.push(string.as_ptr());
    }
    pointers.push(ptr::null());
    pointers
}

/// The errno of the call of the C library that has just failed.
fn last_errno() -> Errno {
    // SAFETY: the location is this thread's own and always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// ioctl(2). Only the files of this room call it.
fn ioctl(fd: &OwnedFd, request: c_ulong, argument: *mut c_void) -> Result<(), Errno> {
    // SAFETY: callers pass what the request takes: null, or a structure that they hold
    // exclusively during the call. The type of a request number differs between C libraries;
    // its bits do not.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Ends the whole process, every thread of it (exit_group(2)).
pub fn exit(status: c_int) -> ! {
    // SAFETY: _exit has no preconditions; it runs no handlers.
    unsafe { libc::_exit(status) }
}

/// Standard error. If it is not open, writing returns EBADF.
#[must_use]
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: nothing in this program owns or closes descriptor 2; at worst it
    // is not open, which the kernel reports.
    unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) }
}
