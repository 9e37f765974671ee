//! What the process asks the operating system for and gets from here instead: syncs of files, writes that may fail, and
//! random bytes. The program's own functions of these names come before those of the C library, for Rust's standard library
//! and for RocksDB alike, so that nothing in the namenode need know of it.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::BorrowedFd;

use steadfs_sim::machine;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

fn fail(error: rustix::io::Errno) {
    // SAFETY: the C library gives each thread a place of its own for the number of its last error.
    unsafe { *__errno_location() = error.raw_os_error() };
}

fn answer(result: Result<(), rustix::io::Errno>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            fail(error);
            -1
        }
    }
}

/// The C library's, as the machine under simulation does it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fdatasync(file: c_int) -> c_int {
    answer(machine::synced(file))
}

/// The C library's, as the machine under simulation does it.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn fsync(file: c_int) -> c_int {
    answer(machine::synced(file))
}

/// The C library's; fails where the machine's disk does.
///
/// # Safety
/// As there: `bytes` are `count` readable bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: usize) -> isize {
    if let Err(error) = machine::writable(file) {
        fail(error);
        return -1;
    }
    // SAFETY: the caller's promise, and it has the file open.
    let (file, bytes) =
        unsafe { (BorrowedFd::borrow_raw(file), std::slice::from_raw_parts(bytes.cast(), count)) };
    count_of(rustix::io::write(file, bytes))
}

/// The C library's; fails where the machine's disk does.
///
/// # Safety
/// As there: `bytes` are `count` readable bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pwrite64(
    file: c_int,
    bytes: *const c_void,
    count: usize,
    offset: i64,
) -> isize {
    if let Err(error) = machine::writable(file) {
        fail(error);
        return -1;
    }
    // SAFETY: the caller's promise, and it has the file open.
    let (file, bytes) =
        unsafe { (BorrowedFd::borrow_raw(file), std::slice::from_raw_parts(bytes.cast(), count)) };
    count_of(rustix::io::pwrite(file, bytes, offset.cast_unsigned()))
}

fn count_of(result: Result<usize, rustix::io::Errno>) -> isize {
    match result {
        Ok(count) => count.cast_signed(),
        Err(error) => {
            fail(error);
            -1
        }
    }
}

/// The C library's, from the seed.
///
/// # Safety
/// As there: `buffer` is room for `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    if length > 0 {
        // SAFETY: the caller's promise.
        machine::random_bytes(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) });
    }
    length.cast_signed()
}
