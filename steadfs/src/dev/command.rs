//! `steadfs dev` as a command.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use steadfs_common::parse_bytes;
use steadfs_daemon::logs;
use steadfs_daemon::shutdown::Shutdown;

use super::layout::node_name;
use super::node::Ended;
use super::{Cluster, DEFAULT_HTTP_PORT, DEFAULT_PORT, MAX_DATANODES, Options};

/// How long a start waits for all datanodes before it says who is missing and goes on.
const SERVING_LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `steadfs dev`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The folder that holds everything; started again on it, the cluster has all its files
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many datanodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_DATANODES)))]
    datanodes: u16,
    /// The port for Hadoop and SteadFS clients; 0 takes any free one
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// The port of the status page and the metrics; 0 takes any free one
    #[arg(long, default_value_t = DEFAULT_HTTP_PORT)]
    http_port: u16,
    /// Replicas of files that do not ask for a number
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    replication: u16,
    /// Block size of files that do not ask for one
    #[arg(long, value_name = "BYTES", default_value = "128MiB", value_parser = parse_bytes)]
    block_size: u64,
    /// The smallest block size that a file may ask for
    #[arg(long, value_name = "BYTES", default_value = "1MiB", value_parser = parse_bytes)]
    min_block_size: u64,
    /// Any other key of the namenode's or the datanodes' configuration, such as dead_after_ms=5000
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Run each node as a process of its own
    #[arg(long)]
    processes: bool,
}

impl TryFrom<Arguments> for Options {
    type Error = anyhow::Error;

    fn try_from(arguments: Arguments) -> anyhow::Result<Self> {
        let binary = match arguments.processes {
            true => Some(std::env::current_exe().context("finding this program")?),
            false => None,
        };
        Ok(Self {
            dir: arguments.dir,
            datanodes: arguments.datanodes,
            volumes: 1,
            port: arguments.port,
            http_port: arguments.http_port,
            replication: arguments.replication,
            block_size: arguments.block_size,
            min_block_size: arguments.min_block_size,
            settings: arguments.settings,
            binary,
        })
    }
}

/// Runs a cluster until SIGTERM or ctrl-C.
///
/// # Errors
/// It does not start, or a node in this process failed.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // That users are believed is what a cluster for one person is about: no warning.
    logs::init("warn,steadfs_namenode::run=error");
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("listening for signals")?;
    let options = Options::try_from(arguments)?;
    let mut cluster = tokio::select! {
        started = Cluster::start(options) => started?,
        () = shutdown.triggered() => return Ok(()),
    };
    let served = serve(&mut cluster, &shutdown).await;
    cluster.stop().await;
    served
}

async fn serve(cluster: &mut Cluster, shutdown: &Shutdown) -> anyhow::Result<()> {
    let waited = tokio::select! {
        waited = cluster.serving(SERVING_LIMIT) => waited,
        () = shutdown.triggered() => return Ok(()),
    };
    if let Err(missing) = waited {
        eprintln!("steadfs: {missing}; serving what there is");
    }
    cluster.tell_endpoints().await?;
    tell_doors(cluster);
    loop {
        let ended = tokio::select! {
            ended = cluster.next_end() => ended,
            () = shutdown.triggered() => return Ok(()),
        };
        tell_end(cluster, &ended);
        // A node of this very process that cannot go on may have left it half alive.
        if cluster.binary().is_none() {
            anyhow::bail!("{} cannot go on: {}", node_name(ended.datanode), ended.how);
        }
    }
}

fn tell_doors(cluster: &Cluster) {
    say(&format!("{:<12} {}", "files", cluster.url()));
    say(&format!("{:<12} {}/", "status page", cluster.http_url()));
    for (index, datanode) in cluster.endpoints().datanodes.iter().enumerate() {
        let (data, pid, dir) = (datanode.data, datanode.pid, datanode.dir.display());
        say(&format!("{:<12} {data} (pid {pid}, {dir})", node_name(Some(index))));
    }
    say("serving; ctrl-C stops it");
}

fn tell_end(cluster: &Cluster, ended: &Ended) {
    let kind = if ended.datanode.is_some() { "datanode" } else { "namenode" };
    let name = node_name(ended.datanode);
    say(&format!("{name} (pid {}) {}", ended.pid, ended.how));
    if cluster.binary().is_some() {
        say(&format!(
            "  start it again: steadfs {kind} --config {}",
            cluster.config(ended.datanode).display()
        ));
    }
}

/// A line on standard output. Whoever read it may have gone: the cluster runs on.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
