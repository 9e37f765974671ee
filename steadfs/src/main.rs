//! One binary for every process of SteadFS.

use std::process::ExitCode;

/// The namenode and the datanodes make many small allocations on many threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    steadfs::main()
}
