//! The `steadfs` program as the tests run it: always built with them, never a stale one from elsewhere.

use std::process::ExitCode;

/// As the program itself has it: what a test says of memory is true of both.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    steadfs::main()
}
