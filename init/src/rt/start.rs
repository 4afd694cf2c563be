//! Start-up of the binary: entry point, allocator, panic handler.
//!
//! musl's crt1 calls `main` (C11 §5.1.2.2.1, with the `envp` of environ(7)).
//!
//! # Safety
//! Each `unsafe` item states what it relies on.

#![allow(unsafe_code)]

use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;

use virtinitrd_init::rt::heap::Heap;
use virtinitrd_init::{boot, rt};

/// The C `main`, which crt1 calls.
// SAFETY: the one C `main` of this program, with the signature crt1 expects.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char, envp: *const *const c_char) -> c_int {
    // SAFETY: crt1 passes the environment block of the initial stack, which
    // nobody changes or frees.
    let environment = unsafe { rt::environment(envp) };
    boot::steps::main(environment)
}

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Reports a panic, which is a defect of this program, and ends the machine.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    boot::end::panicked(info)
}

/// Symbol that Rust's prebuilt `core` and `alloc` refer to, because they were compiled to
/// unwind. This program aborts instead, so nothing calls it.
// SAFETY: no other definition of the symbol is linked.
#[cfg(not(target_env = "musl"))]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Symbol for unwinding, as [`rust_eh_personality`].
// SAFETY: no other definition of the symbol is linked.
#[cfg(not(target_env = "musl"))]
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    boot::end::halt()
}
