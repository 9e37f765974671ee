//! Load drivers. Every command prints what it measured and nothing it did not; compare two servers in one run, take the median
//! of several, and quote ratios. `scripts/bench` does all of that with `--json`.

mod calls;
mod fair;
mod grpc;
mod hadoop;
mod mount;
mod ours;
mod raw;
mod report;
mod spread;
mod streams;
mod swarm;
mod transfer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use calls::Op;
use clap::{Parser, Subcommand};
use report::percentile;
use serde_json::json;

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
        /// Tells it as JSON.
        #[arg(long)]
        json: bool,
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
    /// Bytes in Hadoop's data-transfer protocol through a light client, or through ours; JSON
    Data(DataArgs),
    /// gRPC calls: stats of a path, or empty calls without one; JSON
    Grpc {
        /// host:port
        #[arg(long)]
        address: String,
        #[arg(long)]
        path: Option<String>,
        #[arg(long, default_value_t = 64)]
        connections: u64,
        #[arg(long, default_value_t = 3)]
        seconds: u64,
    },
    /// Serves empty gRPC calls until it is killed; prints its address
    GrpcEmpty,
    /// What the machine allows: round trips, syncs, disk, memory; JSON
    Raw {
        /// A folder on the servers' disk
        #[arg(long)]
        folder: PathBuf,
        #[arg(long, default_value_t = 512)]
        mebibytes: usize,
    },
    /// What a server gives clients that name nothing; JSON
    Settings {
        #[arg(long)]
        fs: String,
    },
    /// Calls about files anywhere in a made-up tree; JSON
    Spread(spread::SpreadArgs),
    /// Datanodes that are none, for a namenode that is measured and thrown away: they register, report replicas of
    /// made-up blocks and send heartbeats; JSON
    Swarm(swarm::SwarmArgs),
    /// How this program was built; JSON
    Build,
}

#[derive(clap::Args)]
struct DataArgs {
    #[arg(long)]
    fs: String,
    #[arg(long)]
    path: String,
    /// What is done
    #[arg(long, value_enum)]
    work: ours::Work,
    /// Through our own client rather than the light one
    #[arg(long)]
    ours: bool,
    #[arg(long, default_value_t = 256)]
    mebibytes: u64,
    #[arg(long, default_value_t = 128)]
    block_mebibytes: u64,
    #[arg(long, default_value_t = 1)]
    replication: u16,
    #[arg(long, default_value_t = 1)]
    connections: u64,
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Where datanodes of this machine have their sockets
    #[arg(long, default_value = steadfs_client::LOCAL_FOLDER)]
    local: PathBuf,
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

fn address(fs: &str) -> anyhow::Result<&str> {
    fs.strip_prefix("hdfs://").map(|rest| rest.trim_end_matches('/')).context("--fs must be hdfs://host:port")
}

fn main() -> anyhow::Result<()> {
    let command = Args::parse().command;
    // One caller is served best by one thread: no wake-up of another one is in its times.
    let alone = matches!(&command, Command::Calls { connections: 1, .. });
    let mut threads = if alone {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    threads.enable_all().build()?.block_on(run(command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Calls { fs, op, connections, seconds, user, folder, json } => {
            let made = calls::run(calls::Plan { fs, op, connections, seconds, user, folder }).await?;
            if json {
                println!("{}", made.json());
            } else {
                println!(
                    "{connections} connections, {seconds} s: {:.0} calls/s, p50 {:?}, p99 {:?}",
                    made.rate(),
                    percentile(&made.times, 50),
                    percentile(&made.times, 99)
                );
            }
            Ok(())
        }
        Command::Files { fs, count, connections, user } => {
            let took = calls::files(&fs, count, connections, &user).await?;
            println!("{count} files in {:.1} s", took.as_secs_f64());
            Ok(())
        }
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
        Command::Data(arguments) => data(arguments).await,
        Command::Grpc { address, path, connections, seconds } => {
            println!("{}", grpc::run(&address, path, connections, seconds).await?.json());
            Ok(())
        }
        Command::GrpcEmpty => grpc::serve_empty().await,
        Command::Raw { folder, mebibytes } => {
            println!("{}", raw::run(&folder, mebibytes)?);
            Ok(())
        }
        Command::Settings { fs } => settings(&fs).await,
        Command::Spread(plan) => {
            println!("{}", spread::run(plan).await?.json());
            Ok(())
        }
        Command::Swarm(plan) => {
            println!("{}", swarm::run(plan).await?);
            Ok(())
        }
        Command::Build => {
            println!("{}", json!({ "debug_assertions": cfg!(debug_assertions) }));
            Ok(())
        }
    }
}

async fn data(arguments: DataArgs) -> anyhow::Result<()> {
    let DataArgs { fs, path, work, ours, replication, connections, seconds, local, .. } = arguments;
    let (bytes, block_size) = (arguments.mebibytes << 20, arguments.block_mebibytes << 20);
    if ours {
        let connections = connections as usize;
        let plan = ours::Plan { fs, path, work, bytes, block_size, replication, connections, seconds, local };
        println!("{}", ours::run(&plan).await?);
        return Ok(());
    }
    let server = address(&fs)?.to_owned();
    let (user, replication) = ("root", u32::from(replication));
    let told = match work {
        ours::Work::Write => {
            let new = transfer::NewFile { path, bytes, block_size, replication };
            let (bytes, took) = transfer::write(&server, user, &new).await?;
            report::moved(bytes, took)
        }
        ours::Work::Read => {
            let (bytes, took): (u64, Duration) = transfer::read(&server, user, &path).await?;
            report::moved(bytes, took)
        }
        ours::Work::Pread => transfer::pread(&server, user, &path, connections, seconds).await?.json(),
        ours::Work::Local | ours::Work::PreadLocal => {
            anyhow::bail!("descriptors are passed to our own client alone: --ours")
        }
    };
    println!("{told}");
    Ok(())
}

async fn settings(fs: &str) -> anyhow::Result<()> {
    let found = hadoop::Connection::open(address(fs)?, "root", 0).await?.defaults().await?;
    println!(
        "{}",
        json!({
            "block_size": found.block_size,
            "bytes_per_checksum": found.bytes_per_checksum,
            "write_packet_size": found.write_packet_size,
            "replication": found.replication,
            "checksum_type": found.checksum_type,
            "encrypt_data_transfer": found.encrypt_data_transfer(),
        })
    );
    Ok(())
}
