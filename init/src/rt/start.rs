//! Start-up of the binary: entry point, allocator, panic handler.
//!
//! musl's crt1 calls `main` (C11 §5.1.2.2.1, with the `envp` of environ(7)).
//!
//! # Safety
//! Each `unsafe` item states what it relies on.

#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_char, c_int, c_void};
use core::panic::PanicInfo;

use virtinitrd_init::{boot, rt};

/// Called by crt1.
// SAFETY: the one C `main` of this program, with the signature crt1 expects.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: crt1 passes the environment block of the initial stack, which
    // nobody changes or frees.
    let environment = unsafe { rt::environment(envp) };
    boot::main(environment)
}

/// musl's malloc.
struct Malloc;

#[global_allocator]
static ALLOCATOR: Malloc = Malloc;

/// Largest alignment that malloc(3) promises on 64-bit machines.
const MALLOC_ALIGN: usize = 16;

// SAFETY: malloc(3) and its family fulfil the contract of `GlobalAlloc` for
// alignments up to MALLOC_ALIGN; larger ones, which nothing here needs, are
// refused.
unsafe impl GlobalAlloc for Malloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > MALLOC_ALIGN {
            return core::ptr::null_mut();
        }
        // SAFETY: malloc takes any size.
        unsafe { libc::malloc(layout.size()).cast() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _layout: Layout) {
        // SAFETY: the caller passes what `alloc` or `realloc` returned.
        unsafe { libc::free(pointer.cast::<c_void>()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, _layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; the alignment was checked by `alloc`.
        unsafe { libc::realloc(pointer.cast::<c_void>(), size).cast() }
    }
}

/// A defect of ours: say where, and end the machine like any fatal error.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    boot::panicked(info)
}

/// Named by the `core` and `alloc` that ship with Rust, which were compiled to
/// unwind; this program aborts instead, so it is never called.
// SAFETY: no other definition of the symbol is linked.
#[cfg(not(target_env = "musl"))]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
// SAFETY: no other definition of the symbol is linked.
#[cfg(not(target_env = "musl"))]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    boot::halt()
}
