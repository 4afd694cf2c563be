//! A static value that is set once, while the program runs.
//!
//! # Safety
//! `state` goes from `EMPTY` to `WRITING` to `READY` and never back. Only the caller that
//! made the first step writes `value`; nobody reads it before the second.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const WRITING: u8 = 1;
const READY: u8 = 2;

/// A cell for one value, which is never dropped.
pub struct Once<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is shared between threads only after it was written; `T: Sync` lets
// threads share it, `T: Send` lets the first caller be any of them.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// An empty cell.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: AtomicU8::new(EMPTY), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Sets the value, unless the cell has one already.
    pub fn set(&self, value: T) {
        let first =
            self.state.compare_exchange(EMPTY, WRITING, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            // SAFETY: `state` was `EMPTY`, so this call alone writes, and nobody reads.
            unsafe { (*self.value.get()).write(value) };
            self.state.store(READY, Ordering::Release);
        }
    }

    /// The value, if it was set.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != READY {
            return None;
        }
        // SAFETY: `READY` means that the value was written and will not change.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_stays() {
        let cell = Once::new();
        assert_eq!(cell.get(), None);
        cell.set("first");
        cell.set("second");
        assert_eq!(cell.get(), Some(&"first"));
    }
}
