//! Random operations on a mount and on the local disk: every outcome, every errno and all that is left must be the same.
//!
//! `STEADFS_MODEL_CASES` and `STEADFS_MODEL_OPERATIONS` ask for more than the usual run does.

mod many;
pub(crate) mod mapped;
mod ops;
mod world;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use steadfs_client::Client;
use steadfs_tests::{LIMIT, TestCluster};

use self::ops::{Op, operations};
use self::world::World;
use crate::mounted::Mounted;

/// What a usual run does.
const CASES: usize = 60;
const OPERATIONS: usize = 40;
/// Runs in search of a smaller example.
const SHRINKS: u32 = 600;

fn asked(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Runs the operations of a case in a folder of its own on both sides.
struct Both<'a> {
    local: &'a Path,
    mounted: &'a Mounted,
    client: &'a Client,
    runtime: tokio::runtime::Handle,
    cases: AtomicUsize,
}

impl Both<'_> {
    fn run(&self, operations: &[Op]) -> anyhow::Result<()> {
        let name = format!("case-{}", self.cases.fetch_add(1, Ordering::Relaxed));
        let mut ours = World::new(self.mounted.path(&name))?;
        let mut theirs = World::new(self.local.join(&name))?;
        for (number, op) in operations.iter().enumerate() {
            if *op == Op::Kill {
                self.mounted.kill_server()?;
                continue;
            }
            let (found, expected) = (ours.apply(op), theirs.apply(op));
            anyhow::ensure!(found == expected, "{number}, {op:?}: {found:?}, but on the disk {expected:?}");
        }
        ours.close();
        theirs.close();
        let (found, expected) = (ours.tree()?, theirs.tree()?);
        anyhow::ensure!(found == expected, "left is {found:#?}, but on the disk {expected:#?}");
        for (path, bytes) in expected.iter().filter_map(|(path, left)| Some((path, left.bytes.as_ref()?))) {
            let at = format!("/{name}/{path}");
            let read = self.client.read(&at, bytes.len() + 1);
            let read = self.runtime.block_on(read).with_context(|| format!("{path} through the client"))?;
            anyhow::ensure!(read == *bytes, "the client reads other bytes in {path}");
        }
        self.nothing_else(&name, expected.len())?;
        std::fs::remove_dir_all(self.mounted.path(&name))?;
        Ok(std::fs::remove_dir_all(self.local.join(&name))?)
    }

    /// Deleted files go with their last handle, a moment after it was closed.
    fn nothing_else(&self, name: &str, entries: usize) -> anyhow::Result<()> {
        let started = std::time::Instant::now();
        loop {
            let summary = self.runtime.block_on(self.client.content_summary(&format!("/{name}")))?;
            let there = (summary.files + summary.directories) as usize - 1;
            if there == entries {
                return Ok(());
            }
            anyhow::ensure!(started.elapsed() < LIMIT, "there are {there} entries instead of {entries}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

async fn compare(cases: usize, kills: bool) -> anyhow::Result<()> {
    let test = TestCluster::in_process(3).await?;
    let client = test.client().await?;
    let mounted = Mounted::new(&test.cluster.url(), &["--block-size", "4MiB"]).await?;
    let local = tempfile::tempdir()?;
    let runtime = tokio::runtime::Handle::current();
    let length = asked("STEADFS_MODEL_OPERATIONS", OPERATIONS);
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let both = Both {
                    local: local.path(),
                    mounted: &mounted,
                    client: &client,
                    runtime,
                    cases: AtomicUsize::new(0),
                };
                let config = Config {
                    cases: u32::try_from(cases).unwrap_or(u32::MAX),
                    max_shrink_iters: SHRINKS,
                    failure_persistence: None,
                    ..Config::default()
                };
                TestRunner::new(config).run(
                    &prop::collection::vec(operations(kills), 1..length),
                    |operations| {
                        both.run(&operations).map_err(|error| TestCaseError::fail(format!("{error:#}")))
                    },
                )
            })
            .join()
    });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(TestError::Fail(why, least))) => {
            anyhow::bail!("{why}\nafter {least:#?}\nthe mount's log:\n{}", mounted.log())
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => anyhow::bail!("the comparing thread panicked"),
    }
    drop(mounted);
    test.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_does_what_the_local_disk_does() -> anyhow::Result<()> {
    compare(asked("STEADFS_MODEL_CASES", CASES), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_does_so_while_its_servers_are_killed() -> anyhow::Result<()> {
    compare(asked("STEADFS_MODEL_CASES", CASES / 2), true).await
}
