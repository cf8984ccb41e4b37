//! Shared by all targets: an allocator that refuses sizes which an input of 64 KiB never needs.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of an allocation. The largest that a decoder makes ahead of its input is a snapshot's buffer of 256 KiB, and vectors
/// double.
pub const ALLOCATION_BYTES_MAX: usize = 8 << 20;

struct Bounded;

// SAFETY: hands everything on to the system's allocator, or ends the process.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is `System`'s own.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is `System`'s own.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is `System`'s own.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn check(size: usize) {
    if size > ALLOCATION_BYTES_MAX {
        eprintln!("an allocation of {size} bytes");
        std::process::abort();
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;
