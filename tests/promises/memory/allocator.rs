//! The allocator of this test binary: the system's, which refuses some of what the library asks for, as a system without
//! memory does. Other requests are granted: their refusal is no answer, but the process's end.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

use mlpconv::system::is_asking;

struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

thread_local! {
    /// The requests that are still granted, and those that are refused after them.
    static AHEAD: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Of what the library asks for on this thread, `granted` requests are granted, and the `refused` after them are refused.
/// Returns the number of requests that an earlier call would still have refused.
pub fn refuse(granted: u64, refused: u64) -> u64 {
    AHEAD.replace((granted, refused)).1
}

fn refuses() -> bool {
    if !is_asking() {
        return false;
    }
    match AHEAD.get() {
        (_, 0) => false,
        (0, refused) => {
            AHEAD.set((0, refused - 1));
            true
        }
        (granted, refused) => {
            AHEAD.set((granted - 1, refused));
            false
        }
    }
}

// SAFETY: every request is refused, or goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses() { null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses() { null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refuses() { null_mut() } else { unsafe { System.realloc(address, layout, size) } }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        unsafe { System.dealloc(address, layout) }
    }
}
