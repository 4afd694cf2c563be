//! One thread beside PID 1, for what PID 1 itself may be too stuck to do.
//!
//! Interface: clone(2). execve(2) ends the thread with the program, so that
//! nothing of it is left in the payload. pthread_create(3) would do as well, with
//! 4 kB of musl that keep what no thread here has: thread-local storage,
//! cancellation, somebody to join.
//!
//! # Safety
//! The argument moves into the thread and is owned by it alone, and so is the
//! stack. Thread-local storage is PID 1's; all there is in it is `errno`, which
//! neither rustix nor what the thread calls of [`super::process`] touches.

#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::arch::asm;
use core::ffi::{c_int, c_long, c_void};

use rustix::io::Errno;

/// Bytes of the stack, as many as musl gives a thread.
const STACK: usize = 128 << 10;

/// Aligned as the ABIs ask of a stack.
#[repr(align(16))]
struct Stack {
    _bytes: [u8; STACK],
}

/// One memory, one table of files, one process.
const FLAGS: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

/// What a thread is given: a function and its argument.
struct ThreadStart<T> {
    body: fn(T),
    argument: T,
}

/// Runs `body` with `argument` in a thread that nobody waits for.
///
/// # Errors
/// EAGAIN or ENOMEM, and then `body` never runs; ENOSYS where it is not known how
/// this processor starts a thread.
pub fn spawn<T: Send + 'static>(body: fn(T), argument: T) -> Result<(), Errno> {
    let start = Box::into_raw(Box::new(ThreadStart { body, argument }));
    let stack = Box::into_raw(Box::<Stack>::new_uninit());
    // SAFETY: the stack grows down from its end and is nobody else's; `entry`
    // takes what `start` points to, and does not return.
    let result = unsafe { clone(stack.wrapping_add(1).cast(), entry::<T>, start.cast()) };
    if result > 0 {
        return Ok(());
    }
    // SAFETY: no thread was made, so the boxes are still this function's.
    drop(unsafe { (Box::from_raw(start), Box::from_raw(stack)) });
    // An errno has 12 bits.
    Err(Errno::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::ENOSYS)))
}

extern "C" fn entry<T>(start: *mut c_void) -> ! {
    // SAFETY: `spawn` made this pointer from a box of this very type, and gave
    // it to this thread alone.
    let start = unsafe { Box::from_raw(start.cast::<ThreadStart<T>>()) };
    let ThreadStart { body, argument } = *start;
    // A signal that PID 1 holds back, to read it, would else be delivered here
    // and be lost.
    super::process::hold_signals();
    body(argument);
    super::process::end_thread()
}

/// Makes a thread that calls `entry` with `argument` on the stack that ends at
/// `top`: the thread's id, or an errno, negated.
///
/// # Safety
/// The stack is aligned to 16 bytes, large enough and used by nobody else;
/// `argument` may be given to `entry`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone(
    top: *mut c_void,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> c_long {
    let result;
    // SAFETY: in the thread, where the result is 0, only registers are used until
    // `entry` is called; for the caller this is a system call like any other.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "call r9",
            "2:",
            inlateout("rax") libc::SYS_clone => result,
            in("rdi") c_long::from(FLAGS), in("rsi") top, in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r9") entry, in("r12") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// As for x86_64.
///
/// # Safety
/// Likewise.
#[cfg(target_arch = "aarch64")]
unsafe fn clone(
    top: *mut c_void,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> c_long {
    let result;
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x0, x6",
            "blr x5",
            "2:",
            inlateout("x0") c_long::from(FLAGS) => result,
            in("x1") top, in("x2") 0, in("x3") 0, in("x4") 0, in("x8") libc::SYS_clone,
            in("x5") entry, in("x6") argument,
        );
    }
    result
}

/// Not known here: the boot goes on unwatched.
///
/// # Safety
/// None needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone(_: *mut c_void, _: extern "C" fn(*mut c_void) -> !, _: *mut c_void) -> c_long {
    -c_long::from(libc::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_thread_gets_its_argument_and_ends() {
        static SEEN: AtomicU32 = AtomicU32::new(0);
        spawn(|number: u32| SEEN.store(number, Ordering::Relaxed), 7).unwrap();
        while SEEN.load(Ordering::Relaxed) != 7 {
            core::hint::spin_loop();
        }
    }
}
