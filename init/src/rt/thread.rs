//! A thread beside the main thread of PID 1, which can act while the main thread hangs.
//!
//! Interface: clone(2). execve(2) ends the thread with the program, so that nothing of it is
//! left in the payload. pthread_create(3) would work, but adds 4 kB of musl for features
//! that are not needed here: thread-local storage, cancellation, joining.
//!
//! # Safety
//! The thread alone owns its argument and its stack. It shares thread-local storage with the
//! main thread. That holds only `errno`, which neither rustix nor the functions of
//! [`super::process`] that the thread calls use.

#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::arch::asm;
use core::ffi::{c_int, c_long, c_void};

use rustix::io::Errno;

/// Size of the stack in bytes, the same as in musl.
const STACK: usize = 128 << 10;

/// A stack, aligned as the ABIs require.
#[repr(align(16))]
struct Stack {
    _bytes: [u8; STACK],
}

/// Flags of clone(2) for a thread: shared memory, files and signals, one process.
const FLAGS: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

/// Function and argument of a new thread.
struct ThreadStart<T> {
    body: fn(T),
    argument: T,
}

/// Runs `body` with `argument` in a detached thread.
///
/// # Errors
/// EAGAIN or ENOMEM: the kernel makes no thread. `body` does not run then.
pub fn spawn<T: Send + 'static>(body: fn(T), argument: T) -> Result<(), Errno> {
    let start = Box::into_raw(Box::new(ThreadStart { body, argument }));
    let stack = Box::into_raw(Box::<Stack>::new_uninit());
    // SAFETY: the stack grows down from its end and has no other user; `entry` takes
    // ownership of `start`, and does not return.
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
    // PID 1 blocks signals and reads them. Without this, the kernel would deliver them to
    // this thread, and they would be lost.
    super::process::hold_signals();
    body(argument);
    super::process::end_thread()
}

/// Makes a thread that calls `entry` with `argument` on the stack that ends at `top`. Returns
/// the thread's id, or a negated errno.
///
/// # Safety
/// The stack is aligned to 16 bytes, large enough, and has no other user; `entry` may take
/// `argument`.
unsafe fn clone(
    top: *mut c_void,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> c_long {
    let result;
    // SAFETY: in the thread, where the result is 0, only registers are used until
    // `entry` is called; for the caller this is a system call like any other.
    unsafe {
        #[cfg(target_arch = "x86_64")]
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

        #[cfg(target_arch = "aarch64")]
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

        #[cfg(target_arch = "riscv64")]
        asm!(
            "ecall",
            "bnez a0, 2f",
            "mv a0, a6",
            "jalr a5",
            "2:",
            inlateout("a0") c_long::from(FLAGS) => result,
            in("a1") top, in("a2") 0, in("a3") 0, in("a4") 0, in("a7") libc::SYS_clone,
            in("a5") entry, in("a6") argument,
        );

        // The called function saves registers above its stack (s390x ELF ABI, "Register save
        // area"), in 160 bytes that are left free for it.
        #[cfg(target_arch = "s390x")]
        asm!(
            "svc {number}",
            "ltgr %r2, %r2",
            "jne 2f",
            "lgr %r2, %r8",
            "basr %r14, %r7",
            "2:",
            number = const libc::SYS_clone,
            inlateout("r2") top.wrapping_byte_sub(160) => result,
            in("r3") c_long::from(FLAGS), in("r4") 0, in("r5") 0, in("r6") 0,
            in("r7") entry, in("r8") argument,
        );

        // The called function saves its link register in the frame above its own (64-bit ELFv2 ABI
        // §2.2.2); 32 bytes are left free for that. The kernel tells an error by a flag, and by an
        // errno that is not negated.
        #[cfg(all(target_arch = "powerpc64", target_endian = "little"))]
        asm!(
            "sc",
            "bns+ 3f",
            "neg 3, 3",
            "3:",
            "cmpdi 3, 0",
            "bne 2f",
            "mr 3, 15",
            "mr 12, 14",
            "mtctr 12",
            "bctrl",
            "2:",
            inlateout("r0") libc::SYS_clone => _,
            inlateout("r3") c_long::from(FLAGS) => result,
            inlateout("r4") top.wrapping_byte_sub(32) => _,
            inlateout("r5") 0_u64 => _, inlateout("r6") 0_u64 => _, inlateout("r7") 0_u64 => _,
            in("r14") entry, in("r15") argument,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("cr0") _, lateout("ctr") _, lateout("xer") _,
        );
    }
    result
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
