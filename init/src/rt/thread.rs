//! One thread beside PID 1, for what PID 1 itself may be too stuck to do.
//!
//! Interface: pthread_create(3). execve(2) ends it with the program, so that
//! nothing of it is left in the payload.
//!
//! # Safety
//! The argument moves into the thread and is owned by it alone.

#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::ffi::{c_int, c_void};
use core::{mem, ptr};

use rustix::io::Errno;

/// What a thread is given: a function and its argument.
struct Start<T> {
    body: fn(T),
    argument: T,
}

/// Runs `body` with `argument` in a thread that nobody waits for.
///
/// # Errors
/// EAGAIN or ENOMEM, and then `body` never runs.
pub fn spawn<T: Send + 'static>(body: fn(T), argument: T) -> Result<(), Errno> {
    let start = Box::into_raw(Box::new(Start { body, argument })).cast::<c_void>();
    // SAFETY: pthread_t is an integer or a pointer, for which zero is a value;
    // pthread_create overwrites it.
    let mut thread = unsafe { mem::zeroed::<libc::pthread_t>() };
    // SAFETY: `thread` is writable, no attributes are the defaults, and `entry`
    // takes exactly what `start` points to.
    let error: c_int =
        unsafe { libc::pthread_create(&raw mut thread, ptr::null(), entry::<T>, start) };
    if error != 0 {
        // SAFETY: no thread was made, so the box is still this function's.
        drop(unsafe { Box::from_raw(start.cast::<Start<T>>()) });
        return Err(Errno::from_raw_os_error(error));
    }
    Ok(())
}

extern "C" fn entry<T>(start: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` made this pointer from a box of this very type, and gave
    // it to this thread alone.
    let start = unsafe { Box::from_raw(start.cast::<Start<T>>()) };
    let Start { body, argument } = *start;
    // A signal that PID 1 holds back, to read it, would else be delivered here
    // and be lost.
    super::process::hold_signals();
    body(argument);
    ptr::null_mut()
}
