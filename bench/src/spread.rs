//! Calls about files and folders anywhere in a made-up tree (`steadfs admin synth`), so that caches of any size miss.

use std::time::{Duration, Instant};

use crate::address;
use crate::hadoop::Connection;
use crate::report::Calls;

/// As `steadfs admin synth` arranges folders.
const FOLDERS_TOGETHER: u64 = 1_000;

#[derive(clap::Args, Clone)]
pub(crate) struct SpreadArgs {
    /// hdfs://host:port
    #[arg(long)]
    fs: String,
    /// stat, open (a file), open-at (anywhere in it), list (a page of a folder), walk (all of it), create or delete (a file
    /// beside the others)
    #[arg(long)]
    op: String,
    /// As the tree was made
    #[arg(long, default_value = "synthetic")]
    name: String,
    #[arg(long)]
    files: u64,
    #[arg(long, default_value_t = 1_000)]
    per_folder: u64,
    /// Bytes of a file
    #[arg(long, default_value_t = 1 << 20)]
    file_bytes: u64,
    #[arg(long, default_value_t = 16)]
    connections: u64,
    /// Microseconds that each connection rests after a call: what is asked for is then the time of a call, not how many there can be
    #[arg(long, default_value_t = 0)]
    rest_us: u64,
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

impl SpreadArgs {
    fn folder(&self, leaf: u64) -> String {
        format!("/{}/d{:04}/d{leaf:07}", self.name, leaf / FOLDERS_TOGETHER)
    }
}

/// The next of a sequence of well-mixed numbers (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One caller's calls.
async fn calls(plan: SpreadArgs, number: u64, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(address(&plan.fs)?, "root", number).await?;
    let run = u64::from(std::process::id());
    let mut random = run << 32 | number;
    let (mut times, mut made) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        let file = next(&mut random) % plan.files.max(1);
        let leaf = file / plan.per_folder;
        let folder = plan.folder(leaf);
        let path = format!("{folder}/part-{:08}", file % plan.per_folder);
        let new = format!("{folder}/new-{run}-{number}-{}", times.len());
        if plan.op == "delete" {
            connection.create(&new).await?;
            connection.complete(&new).await?;
        }
        let begun = Instant::now();
        match plan.op.as_str() {
            "stat" => connection.stat(&path).await?,
            "open" => connection.open_file(&path).await?,
            "open-at" => connection.open_at(&path, next(&mut random) % plan.file_bytes.max(1)).await?,
            "list" => connection.list(&folder).await?,
            "walk" => {
                let entries = connection.list_all(&folder).await?;
                let made = (plan.files - leaf * plan.per_folder).min(plan.per_folder);
                anyhow::ensure!(entries >= made, "{folder} has {entries} entries, not {made}");
            }
            "create" => {
                connection.create(&new).await?;
                made.push(new);
            }
            "delete" => connection.delete(&new).await?,
            other => anyhow::bail!("--op is stat, open, open-at, list, walk, create or delete, not {other}"),
        }
        times.push(begun.elapsed());
        if plan.rest_us > 0 {
            tokio::time::sleep(Duration::from_micros(plan.rest_us)).await;
        }
    }
    // What was made goes again: the tree is as it was.
    for path in made {
        connection.delete(&path).await?;
    }
    Ok(times)
}

/// Makes the calls.
pub(crate) async fn run(plan: SpreadArgs) -> anyhow::Result<Calls> {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(plan.seconds);
    let tasks: Vec<_> =
        (1..=plan.connections).map(|number| tokio::spawn(calls(plan.clone(), number, end))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(Calls::new(times, Duration::from_secs(plan.seconds)))
}
