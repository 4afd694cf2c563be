//! The allocator: an arena that only grows, because the program ends soon.
//!
//! `/init` allocates a few kilobytes and then becomes another program. If it stays, it frees
//! each new block at once, so a smarter allocator is not worth its code. The newest block
//! can be freed and grown, so that a growing vector leaves nothing behind. A child of
//! `/init` serves each further session; its memory ends with it.
//!
//! # Safety
//! `next` alone decides about ownership: bytes below it belong to blocks, all others are
//! free. It changes by compare-and-exchange only. So no two blocks overlap, whichever
//! threads allocate.

#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Size of the arena in bytes, enough for the names of 30,000 modules, or for the longest
/// command and its list of pointers. Pages that are not used cost nothing.
const SIZE: usize = 32 << 20;

/// Alignment of the arena, and so the largest alignment of a block.
const ALIGN: usize = 16;

#[repr(align(16))]
struct Arena(UnsafeCell<MaybeUninit<[u8; SIZE]>>);

// SAFETY: the bytes are reached through blocks only, each owned by one caller.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new(MaybeUninit::uninit()));

/// The arena as an allocator. There is only one.
#[derive(Debug)]
pub struct Heap {
    /// Offset of the first free byte.
    next: AtomicUsize,
}

impl Heap {
    /// An allocator without blocks.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: AtomicUsize::new(0) }
    }

    fn base() -> *mut u8 {
        ARENA.0.get().cast()
    }

    /// Moves the end of the newest block from `from` to `to`. False: another block is the
    /// newest.
    #[inline(never)] // one copy instead of one at each call
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= SIZE
            && self.next.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks lie inside the arena, are aligned as asked (offsets and arena
// are), and do not overlap, as the head of this file says. A request that does not fit
// returns null.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGN {
            return ptr::null_mut();
        }
        loop {
            let end = self.next.load(Ordering::Acquire);
            let start = end.next_multiple_of(layout.align());
            let Some(new_end) = start.checked_add(layout.size()).filter(|&end| end <= SIZE) else {
                return ptr::null_mut();
            };
            if self.move_end(end, new_end) {
                // SAFETY: `start` is inside the arena.
                return unsafe { Self::base().add(start) };
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let start = block.addr() - Self::base().addr();
        // A block that is not the newest stays in use.
        self.move_end(start + layout.size(), start);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let start = block.addr() - Self::base().addr();
        if start.checked_add(size).is_some_and(|end| self.move_end(start + layout.size(), end)) {
            return block;
        }
        // SAFETY: the caller vouches that `size` makes a layout with this
        // alignment, and that `block` has `layout.size()` bytes; the new block
        // is another one.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for all cases, because there is one arena.
    #[test]
    fn blocks_are_apart_and_the_newest_comes_back() {
        let heap = Heap::new();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        // SAFETY: every block is used within its layout and its lifetime.
        unsafe {
            let first = heap.alloc(layout(3, 1));
            let second = heap.alloc(layout(8, 8));
            assert_eq!(second.addr() % 8, 0);
            assert!(second.addr() >= first.addr() + 3);

            // The newest block grows and shrinks in place.
            assert_eq!(heap.realloc(second, layout(8, 8), 100), second);
            assert_eq!(heap.realloc(second, layout(100, 8), 8), second);
            heap.dealloc(second, layout(8, 8));
            assert_eq!(heap.alloc(layout(8, 8)), second);

            // An older block moves with its contents.
            first.write_bytes(7, 3);
            let moved = heap.realloc(first, layout(3, 1), 50);
            assert_ne!(moved, first);
            assert_eq!(core::slice::from_raw_parts(moved, 3), [7, 7, 7]);

            // A request that does not fit fails and changes nothing.
            assert!(heap.alloc(layout(SIZE, 1)).is_null());
            assert!(heap.alloc(layout(16, 32)).is_null());
            assert!(heap.realloc(moved, layout(50, 1), SIZE + 1).is_null());
            assert!(!heap.alloc(layout(16, 16)).is_null());
        }
    }
}
