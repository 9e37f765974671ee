//! One running node: in this process, or a child.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use steadfs_daemon::pool::DiskPool;
use steadfs_daemon::shutdown::Shutdown;
use steadfs_datanode::Datanode;
use steadfs_namenode::Namenode;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::doors::{DatanodeDoors, NamenodeDoors};

/// How long a child may take to open its doors.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a node may take to end cleanly before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The longest line that a child tells its doors in, in bytes.
const MAX_DOORS_BYTES: u64 = 64 << 10;
/// How much of a child's log is searched for why it failed, in bytes.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// A node that ended although nobody asked it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `None` is the namenode, `Some(0)` the first datanode.
    pub datanode: Option<usize>,
    /// The process it was.
    pub pid: u32,
    /// How it ended.
    pub how: String,
}

/// A node that was started.
pub(crate) struct Node<D> {
    pub(crate) pid: u32,
    pub(crate) doors: D,
    stop: Shutdown,
    kill: Shutdown,
    task: JoinHandle<()>,
}

/// How a child is started.
pub(crate) struct ChildSpec {
    pub(crate) binary: PathBuf,
    /// `None` is the namenode.
    pub(crate) datanode: Option<usize>,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
}

impl<D> Node<D> {
    /// Ends it cleanly; kills it if that takes too long.
    pub(crate) async fn stop(self) {
        self.stop.trigger();
        self.ended().await;
    }

    /// Ends it as SIGKILL does, if it is a child; cleanly otherwise.
    pub(crate) async fn kill(self) {
        self.kill.trigger();
        self.ended().await;
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "watching a node failed");
        }
    }
}

/// A namenode in this process.
pub(crate) async fn namenode_here(
    config: steadfs_namenode::Config,
    events: mpsc::Sender<Ended>,
) -> anyhow::Result<Node<NamenodeDoors>> {
    let stop = Shutdown::new();
    let node = Namenode::start(config, stop.clone()).await?;
    let doors = NamenodeDoors::of(&node);
    Ok(watch_here(None, doors, stop, async move { node.stopped().await }, events))
}

/// A datanode in this process.
pub(crate) async fn datanode_here(
    index: usize,
    config: steadfs_datanode::Config,
    file: PathBuf,
    events: mpsc::Sender<Ended>,
) -> anyhow::Result<Node<DatanodeDoors>> {
    let stop = Shutdown::new();
    let reload: steadfs_datanode::Reload = Arc::new(move || Ok(steadfs_daemon::config::load(&file)?));
    let node = Datanode::start_reloading(config, Some(reload), stop.clone()).await?;
    let doors = DatanodeDoors::of(&node);
    Ok(watch_here(Some(index), doors, stop, async move { node.stopped().await }, events))
}

fn watch_here<D>(
    datanode: Option<usize>,
    doors: D,
    stop: Shutdown,
    stopped: impl Future<Output = ()> + Send + 'static,
    events: mpsc::Sender<Ended>,
) -> Node<D> {
    let pid = std::process::id();
    let (asked, kill) = (stop.clone(), Shutdown::new());
    let kill_asked = kill.clone();
    let task = tokio::spawn(async move {
        let mut stopped = std::pin::pin!(stopped);
        tokio::select! {
            () = stopped.as_mut() => {}
            () = kill_asked.triggered() => {
                asked.trigger();
                stopped.await;
            }
        }
        asked.trigger();
        asked.drained(STOP_LIMIT).await;
        if let Some(how) = asked.failure() {
            let _ = events.send(Ended { datanode, pid, how }).await;
        }
    });
    Node { pid, doors, stop, kill, task }
}

/// Starts a child and waits until its doors are open.
pub(crate) async fn child<D: DeserializeOwned>(
    spec: ChildSpec,
    files: &DiskPool,
    events: mpsc::Sender<Ended>,
) -> anyhow::Result<Node<D>> {
    let log = spec.log.clone();
    let (output, log_start) = files.run(move || open_log(&log)).await?;
    let mut command = Command::new(&spec.binary);
    command.arg(if spec.datanode.is_none() { "namenode" } else { "datanode" });
    command.arg("--config").arg(&spec.config).args(["--parent", &std::process::id().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(output);
    // Of its own group, so that a ctrl-C reaches the cluster once, and the nodes end in order.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("running {}", spec.binary.display()))?;
    let pid = child.id().context("a child that was just started has a process id")?;
    let doors = match started(&mut child).await {
        Ok(doors) => doors,
        Err(error) => {
            let _ = child.kill().await;
            let log = spec.log.clone();
            let told = files.run(move || last_line(&log, log_start)).await;
            bail!(told.unwrap_or_else(|| format!("{error:#}; its log is {}", spec.log.display())));
        }
    };
    let (stop, kill) = (Shutdown::new(), Shutdown::new());
    let task = tokio::spawn(watch_child(child, pid, spec.datanode, stop.clone(), kill.clone(), events));
    Ok(Node { pid, doors, stop, kill, task })
}

/// Waits for the line in which a child tells its doors.
async fn started<D: DeserializeOwned>(child: &mut Child) -> anyhow::Result<D> {
    let output = child.stdout.take().context("the child's output is a pipe")?;
    let mut line = String::new();
    let mut lines = BufReader::new(output.take(MAX_DOORS_BYTES));
    tokio::time::timeout(START_LIMIT, lines.read_line(&mut line))
        .await
        .context("it did not start in time")??;
    if line.is_empty() {
        bail!("it ended at once");
    }
    serde_json::from_str(&line).with_context(|| format!("it did not tell its doors but `{}`", line.trim()))
}

async fn watch_child(
    mut child: Child,
    pid: u32,
    datanode: Option<usize>,
    stop: Shutdown,
    kill: Shutdown,
    events: mpsc::Sender<Ended>,
) {
    tokio::select! {
        status = child.wait() => {
            let how = status.map_or_else(|error| error.to_string(), describe);
            let _ = events.send(Ended { datanode, pid, how }).await;
            return;
        }
        () = kill.triggered() => {}
        () = stop.triggered() => {
            terminate(pid);
            tokio::select! {
                _ = child.wait() => return,
                () = kill.triggered() => {}
                () = tokio::time::sleep(STOP_LIMIT) => tracing::warn!(pid, "did not stop in time: killed"),
            }
        }
    }
    if let Err(error) = child.kill().await {
        tracing::error!(pid, %error, "cannot kill a child process");
    }
}

/// Asks a child that has not been waited for, and whose process id is its own therefore.
fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::warn!(%error, "cannot ask a child process to stop");
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".into(),
    }
}

/// The log to write to, and where this start's lines begin.
fn open_log(path: &Path) -> anyhow::Result<(File, u64)> {
    let open = || {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        std::io::Result::Ok((file, length))
    };
    open().with_context(|| format!("opening the log {}", path.display()))
}

/// The last line that a child wrote after `start`, which is where it says why it failed.
fn last_line(path: &Path, start: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_TAIL_BYTES)))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim_start_matches("steadfs: ").to_owned())
}
