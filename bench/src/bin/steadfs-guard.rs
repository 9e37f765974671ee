//! One hot path by its name, for a counter of instructions.

use std::hint::black_box;

use anyhow::Context;
use steadfs_bench::inner::{CASES, Run, find};

/// As the servers have it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs before those that count, so that caches are filled and tables grown.
const WARM_RUNS: usize = 3;

/// What is counted is what happens in here, on this thread: a tool finds it by its name.
#[inline(never)]
fn steadfs_guard_measured(run: &mut Run) {
    run();
    black_box(());
}

fn main() -> anyhow::Result<()> {
    let Some(name) = std::env::args().nth(1) else {
        CASES.iter().for_each(|case| println!("{}\t{}", case.name, case.what));
        return Ok(());
    };
    let case = find(&name).with_context(|| format!("no hot path is called {name}"))?;
    let folder = tempfile::tempdir()?;
    let mut run = case.prepare(folder.path());
    for _ in 0..WARM_RUNS {
        run();
    }
    steadfs_guard_measured(&mut run);
    drop(folder);
    // Threads of a namenode that was started for this are not waited for.
    std::process::exit(0)
}
