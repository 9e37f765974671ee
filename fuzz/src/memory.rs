//! Ends the process when more memory is asked for at once than the bytes at hand can be worth.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The largest single allocation of a server: a frame of 64 MiB, and what grows by doubling.
pub const SERVER_BYTES: usize = 160 << 20;
/// What a parser may want whatever it is given.
const FREE_BYTES: usize = 256 << 10;
/// What it may want for each byte that it was given: a field of a byte may become a struct.
const PER_BYTE: usize = 512;

/// Of all threads.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    /// Of the thread that parses: others may still be busy with an input before.
    static HERE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// From now on no single allocation may be larger than this, in no thread.
pub fn limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
    HERE.set(usize::MAX);
}

/// Allows what `input` bytes may cost a parser that runs in this thread.
pub fn limit_for(input: usize) {
    HERE.set(FREE_BYTES + input.saturating_mul(PER_BYTE));
}

struct Guarded;

#[global_allocator]
static GUARDED: Guarded = Guarded;

fn check(bytes: usize) {
    let here = HERE.try_with(Cell::get).unwrap_or(usize::MAX);
    if bytes > LIMIT.load(Ordering::Relaxed).min(here) {
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        let _ = HERE.try_with(|limit| limit.set(usize::MAX));
        panic!("{bytes} bytes were asked for at once");
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
