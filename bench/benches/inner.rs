//! Times of the hot paths: `scripts/bench inner`.

use divan::Bencher;
use steadfs_bench::inner::{CASES, find};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = CASES.iter().map(|case| case.name), sample_count = 50)]
fn inner(bencher: Bencher<'_, '_>, name: &str) {
    let folder = tempfile::tempdir().expect("a folder for what is measured");
    let mut run = find(name).expect("a case of the list").prepare(folder.path());
    run();
    bencher.bench_local(&mut run);
}
