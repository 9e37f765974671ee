//! What tests of a whole cluster share: a cluster in a folder of its own, and files whose bytes are known.
//!
//! The cluster is `steadfs dev`'s: tests start it as that command does, in one process or as child processes.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::TryStreamExt;
use steadfs::dev::{Cluster, Options};
use steadfs_client::{Client, FsckItem, FsckSummary};
use tempfile::TempDir;

/// How long anything that must happen may take on a machine that does much else.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The block size of test clusters, so that small files have many blocks.
pub const BLOCK: u64 = 1 << 20;
/// How often a condition is asked for.
const POLL: Duration = Duration::from_millis(50);

/// A port that nothing listens at, and that stays free while its server is not there: none of those that the kernel gives to
/// connections and to others that ask for any.
fn free_port() -> anyhow::Result<u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test programs run beside each other: each begins elsewhere.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let next = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + next).expect("32,000 at most");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST} on is free")
}

/// A cluster under a temporary folder, which goes with it.
pub struct TestCluster {
    /// What can be started, stopped and killed.
    pub cluster: Cluster,
    options: Options,
    folder: TempDir,
}

impl TestCluster {
    /// `datanodes` datanodes and the namenode in this process, serving.
    ///
    /// # Errors
    /// It does not start.
    pub async fn in_process(datanodes: u16) -> anyhow::Result<Self> {
        Self::start(datanodes, |_| {}).await
    }

    /// The same as child processes of `binary`, to be killed one by one.
    ///
    /// # Errors
    /// It does not start.
    pub async fn by_processes(datanodes: u16, binary: &str) -> anyhow::Result<Self> {
        Self::start(datanodes, |options| options.binary = Some(binary.into())).await
    }

    /// As `adjust` wants it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(datanodes: u16, adjust: impl FnOnce(&mut Options)) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("steadfs-test-").tempdir().context("making a folder")?;
        let mut options = Options::any_ports(folder.path());
        (options.port, options.http_port) = (free_port()?, free_port()?);
        options.datanodes = datanodes;
        options.replication = datanodes.min(3);
        options.block_size = BLOCK;
        options.min_block_size = 1 << 10;
        // What an operator counts in minutes, in moments; but no process that is merely busy is taken for dead.
        options.settings = ["heartbeat_interval_ms=200", "dead_after_ms=4000"].map(String::from).to_vec();
        adjust(&mut options);
        let cluster = Cluster::start(options.clone()).await?;
        cluster.serving(LIMIT).await?;
        Ok(Self { cluster, options, folder })
    }

    /// Stops everything and starts it again on the same folder.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(self) -> anyhow::Result<Self> {
        let Self { cluster, options, folder } = self;
        cluster.stop().await;
        let cluster = Cluster::start(options.clone()).await?;
        cluster.serving(LIMIT).await?;
        Ok(Self { cluster, options, folder })
    }

    /// The folder that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of its own.
    ///
    /// # Errors
    /// The namenode does not answer.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(&self.cluster.url()).await?)
    }

    /// Waits until every block has all its replicas.
    ///
    /// # Errors
    /// It did not come to that: what is still wrong.
    pub async fn healed(&self) -> anyhow::Result<()> {
        let client = self.client().await?;
        eventually("every block has its replicas", async || {
            let summary = fsck(&client).await?;
            Ok(summary.healthy && summary.under_replicated == 0)
        })
        .await
    }

    /// Waits until the namenode counts `live` datanodes as alive.
    ///
    /// # Errors
    /// It did not come to that.
    pub async fn live_datanodes(&self, live: usize) -> anyhow::Result<()> {
        let client = self.client().await?;
        eventually("the datanodes that live", async || {
            let report = client.report().await?;
            Ok(report.datanodes.iter().filter(|node| node.live).count() == live)
        })
        .await
    }

    /// Ends everything.
    pub async fn stop(self) {
        self.cluster.stop().await;
    }
}

/// The totals of a check of all files.
///
/// # Errors
/// The namenode does not answer.
pub async fn fsck(client: &Client) -> anyhow::Result<FsckSummary> {
    let items: Vec<FsckItem> = client.fsck("/", false).await?.try_collect().await?;
    let summary = items.into_iter().find_map(|item| match item {
        FsckItem::Summary(summary) => Some(summary),
        FsckItem::File(_) => None,
    });
    summary.context("a check of files ends with a summary")
}

/// Asks until `condition` holds. Errors count as "not yet"; the last one is told if it never does.
///
/// # Errors
/// It did not hold within [`LIMIT`].
pub async fn eventually(
    what: &str,
    mut condition: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut last = String::new();
    let asked = async {
        loop {
            match condition().await {
                Ok(true) => return,
                Ok(false) => last.clear(),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let outcome = tokio::time::timeout(LIMIT, asked).await;
    outcome.with_context(|| format!("not within {LIMIT:?}: {what}; {last}"))
}

/// `length` bytes that only `name` gives: no two places of a test's files look alike.
#[must_use]
pub fn content(name: &str, length: usize) -> Bytes {
    // A splitmix64 stream seeded by the name.
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// Writes [`content`] of `path` to it.
///
/// # Errors
/// The file could not be written.
pub async fn write(client: &Client, path: &str, length: usize) -> anyhow::Result<()> {
    client.write(path, content(path, length)).await.with_context(|| format!("writing {path}"))
}

/// Checks that `path` holds [`content`] of `name`.
///
/// # Errors
/// It cannot be read, or holds something else.
pub async fn verify(client: &Client, path: &str, name: &str, length: usize) -> anyhow::Result<()> {
    let bytes = client.read(path, length + 1).await.with_context(|| format!("reading {path}"))?;
    ensure!(bytes.len() == length, "{path} has {} bytes, not {length}", bytes.len());
    ensure!(bytes == content(name, length), "{path} holds other bytes than were written");
    Ok(())
}
