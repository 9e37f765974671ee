//! Load drivers. Every command prints what it measured and nothing it did not; compare two servers in one run, take the median
//! of several, and quote ratios.

mod fair;
mod hadoop;
mod mount;
mod streams;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(about = "Measures a SteadFS cluster, or an Apache HDFS beside it")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Calls a second over Hadoop RPC, one call outstanding a connection.
    Calls {
        /// hdfs://host:port
        #[arg(long)]
        fs: String,
        #[arg(long, value_enum)]
        op: Op,
        #[arg(long, default_value_t = 16)]
        connections: u64,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Who calls.
        #[arg(long, default_value = "root")]
        user: String,
        /// Reads files f0 to f99 of this folder rather than empty ones of its own.
        #[arg(long)]
        folder: Option<String>,
    },
    /// Makes empty files, 1,000 a folder, below /bench-files.
    Files {
        #[arg(long)]
        fs: String,
        #[arg(long)]
        count: u64,
        #[arg(long, default_value_t = 64)]
        connections: u64,
        #[arg(long, default_value = "root")]
        user: String,
    },
    /// What a storm of one user's calls does to the times of another's.
    Fairness {
        #[arg(long)]
        fs: String,
        #[arg(long, value_enum)]
        op: Op,
        /// Connections of the storm.
        #[arg(long, default_value_t = 64)]
        connections: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Who storms.
        #[arg(long, default_value = "storm")]
        storming: String,
        /// Who calls meanwhile, on one connection. Makes the folders, so it must be a superuser.
        #[arg(long, default_value = "root")]
        calm: String,
    },
    /// A mount beside the local disk and beside our client.
    Mount(MountArgs),
    /// Writes a file through our client, reads it back, and prints both speeds.
    Stream {
        #[arg(long)]
        fs: String,
        #[arg(long, default_value_t = 1024)]
        mebibytes: u64,
        #[arg(long, default_value_t = 3)]
        replication: u16,
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
}

#[derive(clap::Args)]
struct MountArgs {
    /// hdfs://host:port
    #[arg(long)]
    fs: String,
    /// Where its root is mounted.
    #[arg(long)]
    mount: PathBuf,
    /// Where it is mounted once more, with a --local that has no sockets.
    #[arg(long)]
    remote: PathBuf,
    /// A folder of the local disk; what is in it goes.
    #[arg(long)]
    beside: PathBuf,
    #[arg(long, default_value_t = 256)]
    mebibytes: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Files that are read.
const FILES: u64 = 100;

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Op {
    Stat,
    Open,
    List,
    Create,
    Mkdirs,
}

fn address(fs: &str) -> anyhow::Result<&str> {
    fs.strip_prefix("hdfs://").map(|rest| rest.trim_end_matches('/')).context("--fs must be hdfs://host:port")
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Calls { fs, op, connections, seconds, user, folder } => {
            calls(&fs, op, connections, seconds, &user, folder).await
        }
        Command::Files { fs, count, connections, user } => files(&fs, count, connections, &user).await,
        Command::Fairness { fs, op, connections, seconds, storming, calm } => {
            let what = fair::Fairness { fs, op, connections, seconds, storming, calm };
            // It has runtimes of its own.
            let measured = std::thread::spawn(move || fair::run(&what)).join();
            measured.ok().context("the measuring thread panicked")?
        }
        Command::Mount(MountArgs { fs, mount, remote, beside, mebibytes, rounds }) => {
            mount::run(mount::Plan { fs, mount, remote, beside, mebibytes, rounds }).await
        }
        Command::Stream { fs, mebibytes, replication, rounds } => {
            streams::run(&fs, mebibytes, replication, rounds).await
        }
    }
}

/// Where the calls go: the folder named, or a new one with empty files in it.
async fn place(server: &str, user: &str, folder: Option<String>) -> anyhow::Result<String> {
    if let Some(folder) = folder {
        return Ok(folder);
    }
    let folder = format!("/bench-calls-{}", std::process::id());
    let mut first = hadoop::Connection::open(server, user, 0).await?;
    first.mkdirs(&folder).await?;
    for index in 0..FILES {
        let path = format!("{folder}/f{index}");
        first.create(&path).await?;
        first.complete(&path).await?;
    }
    Ok(folder)
}

async fn calls(
    fs: &str,
    op: Op,
    connections: u64,
    seconds: u64,
    user: &str,
    folder: Option<String>,
) -> anyhow::Result<()> {
    let server = address(fs)?.to_owned();
    let folder = place(&server, user, folder).await?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let process = std::process::id();
    let tasks = (1..=connections).map(|number| {
        let (server, user, folder) = (server.clone(), user.to_owned(), folder.clone());
        tokio::spawn(async move {
            let mut connection = hadoop::Connection::open(&server, &user, number).await?;
            let mut times = Vec::new();
            let mut count = 0_u64;
            while Instant::now() < end {
                count += 1;
                let start = Instant::now();
                match op {
                    Op::Stat => connection.stat(&format!("{folder}/f{}", count % FILES)).await?,
                    Op::Open => connection.open_file(&format!("{folder}/f{}", count % FILES)).await?,
                    Op::List => connection.list(&folder).await?,
                    Op::Create => connection.create(&format!("{folder}/c{process}-{number}-{count}")).await?,
                    Op::Mkdirs => connection.mkdirs(&format!("{folder}/d{process}-{number}-{count}")).await?,
                }
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await??);
    }
    times.sort_unstable();
    println!(
        "{} connections, {seconds} s: {:.0} calls/s, p50 {:?}, p99 {:?}",
        connections,
        times.len() as f64 / seconds as f64,
        percentile(&times, 50),
        percentile(&times, 99)
    );
    Ok(())
}

async fn files(fs: &str, count: u64, connections: u64, user: &str) -> anyhow::Result<()> {
    const PER_FOLDER: u64 = 1_000;
    let server = address(fs)?.to_owned();
    let start = Instant::now();
    let tasks = (0..connections).map(|number| {
        let (server, user) = (server.clone(), user.to_owned());
        tokio::spawn(async move {
            let mut connection = hadoop::Connection::open(&server, &user, number + 1).await?;
            let mut folder = None;
            for index in (number * PER_FOLDER..count)
                .step_by((connections * PER_FOLDER) as usize)
                .flat_map(|first| first..(first + PER_FOLDER).min(count))
            {
                let place = format!("/bench-files/{}", index / PER_FOLDER);
                if folder.as_ref() != Some(&place) {
                    connection.mkdirs(&place).await?;
                    folder = Some(place.clone());
                }
                let path = format!("{place}/file-{index}");
                connection.create(&path).await?;
                connection.complete(&path).await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    println!("{count} files in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
