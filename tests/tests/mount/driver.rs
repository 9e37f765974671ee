//! The driver's processes on this machine: a keeper, and the part that makes and mounts volumes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use steadfs_proto::csi;
use steadfs_proto::csi::controller_client::ControllerClient;
use steadfs_proto::csi::node_client::NodeClient;
use steadfs_proto::csi::volume_capability::access_mode::Mode;
use steadfs_proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use steadfs_tests::LIMIT;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::BINARY;

const LOOK: Duration = Duration::from_millis(20);

/// The driver. Dropping it ends its processes and takes its mounts away.
pub(crate) struct Driver {
    folder: TempDir,
    url: String,
    shell: Shell,
    keepers: Vec<String>,
    driver: Option<String>,
}

/// Starts and kills processes, having nothing open on any mount: a process that has, and that starts another one, waits for
/// the mount's server, which may be just what is to be started.
struct Shell {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, commands, answers })
    }

    /// Runs a line that answers with one line.
    fn run(&mut self, line: &str) -> anyhow::Result<String> {
        writeln!(self.commands, "{line}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    fn spawn(&mut self, line: &[&str], log: &str) -> anyhow::Result<String> {
        self.run(&format!("{} </dev/null >/dev/null 2>>{log} & echo $!", line.join(" ")))
    }

    fn kill(&mut self, process: &str) -> anyhow::Result<()> {
        self.run(&format!("kill -9 {process}; wait {process} 2>/dev/null; echo done")).map(|_| ())
    }
}

impl Driver {
    /// A keeper and a driver of the cluster at `url`.
    pub(crate) async fn start(url: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("steadfs-csi-").tempdir()?;
        let shell = Shell::start()?;
        let mut driver = Self { folder, url: url.into(), shell, keepers: Vec::new(), driver: None };
        driver.start_keeper().await?;
        driver.start_driver().await?;
        Ok(driver)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn spawn(&mut self, log: &str, line: &[&str]) -> anyhow::Result<String> {
        let log = self.text(log);
        self.shell.spawn(&[&[BINARY], line].concat(), &log)
    }

    /// Starts a keeper, beside one that may be running.
    pub(crate) async fn start_keeper(&mut self) -> anyhow::Result<()> {
        let socket = self.text("keeper/keeper.sock");
        let before = inode(&self.path("keeper/keeper.sock"));
        let keeper = self.spawn("keeper.log", &["mount-keeper", "--socket", &socket])?;
        self.keepers.push(keeper);
        let socket = self.path("keeper/keeper.sock");
        self.until("a keeper has the socket", || {
            inode(&socket) != before && steadfs_fuse::keeper::Keeper::connect(&socket).is_ok()
        })
        .await
    }

    /// Kills the oldest keeper.
    pub(crate) fn kill_keeper(&mut self) -> anyhow::Result<()> {
        ensure!(!self.keepers.is_empty(), "no keeper runs");
        let keeper = self.keepers.remove(0);
        self.shell.kill(&keeper)
    }

    /// Starts the driver, and waits until it answers.
    pub(crate) async fn start_driver(&mut self) -> anyhow::Result<()> {
        let (socket, keeper, state) =
            (self.text("csi.sock"), self.text("keeper/keeper.sock"), self.text("state"));
        // What a killed one left is no sign of life.
        let _ = std::fs::remove_file(self.path("csi.sock"));
        let (url, user) = (self.url.clone(), steadfs_client::current_user());
        let line = [
            "csi",
            "both",
            "--endpoint",
            &socket,
            "--fs",
            &url,
            "--user",
            &user,
            "--node",
            "node-1",
            "--keeper",
            &keeper,
            "--state",
            &state,
        ];
        self.driver = Some(self.spawn("csi.log", &line)?);
        // The name is there a moment before anybody listens.
        let socket = self.path("csi.sock");
        self.until("the driver listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await
    }

    /// Kills the driver, with no chance to say a word. Its servers end with it.
    pub(crate) fn kill_driver(&mut self) -> anyhow::Result<()> {
        self.driver.take().map_or(Ok(()), |driver| self.shell.kill(&driver))
    }

    /// How many mounts a keeper has.
    pub(crate) fn kept(&self) -> usize {
        let keeper = steadfs_fuse::keeper::Keeper::connect(&self.path("keeper/keeper.sock"));
        keeper.and_then(|keeper| keeper.all()).map_or(0, |all| all.len())
    }

    /// Waits for what must come true.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn() -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        while !condition() {
            ensure!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}\nthe keeper:\n{}", read("csi.log"), read("keeper.log"))
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(format!("unix://{}", self.text("csi.sock")))?.connect().await?)
    }

    pub(crate) async fn controller(&self) -> anyhow::Result<ControllerClient<Channel>> {
        Ok(ControllerClient::new(self.channel().await?))
    }

    pub(crate) async fn node(&self) -> anyhow::Result<NodeClient<Channel>> {
        Ok(NodeClient::new(self.channel().await?))
    }

    /// Makes a volume of 1 GiB.
    pub(crate) async fn create(
        &self,
        name: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<csi::Volume> {
        let request = csi::CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(csi::CapacityRange { required_bytes: 1 << 30, limit_bytes: 0 }),
            volume_capabilities: vec![capability(Mode::MultiNodeMultiWriter)],
            parameters: parameters.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            ..Default::default()
        };
        let answer = self.controller().await?.create_volume(request).await?;
        answer.into_inner().volume.context("no volume came back")
    }

    /// Stages a volume and publishes it; gives where.
    pub(crate) async fn publish(&self, volume: &str, wish: Wish<'_>) -> anyhow::Result<PathBuf> {
        let mut node = self.node().await?;
        let stage = csi::NodeStageVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: self.text("stage"),
            volume_capability: Some(wish.capability.clone()),
            volume_context: wish.context(),
            ..Default::default()
        };
        if !wish.ephemeral {
            node.node_stage_volume(stage).await?;
        }
        let target = self.path(wish.target);
        let publish = csi::NodePublishVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: self.text("stage"),
            target_path: self.text(wish.target),
            volume_capability: Some(wish.capability.clone()),
            volume_context: wish.context(),
            readonly: wish.read_only,
            ..Default::default()
        };
        node.node_publish_volume(publish).await?;
        Ok(target)
    }

    pub(crate) async fn unpublish(&self, volume: &str, target: &str) -> anyhow::Result<()> {
        let request =
            csi::NodeUnpublishVolumeRequest { volume_id: volume.into(), target_path: self.text(target) };
        self.node().await?.node_unpublish_volume(request).await?;
        Ok(())
    }

    pub(crate) async fn unstage(&self, volume: &str) -> anyhow::Result<()> {
        let request = csi::NodeUnstageVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: self.text("stage"),
        };
        self.node().await?.node_unstage_volume(request).await?;
        Ok(())
    }

    pub(crate) async fn stats(
        &self,
        volume: &str,
        target: &str,
    ) -> anyhow::Result<csi::NodeGetVolumeStatsResponse> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: volume.into(),
            volume_path: self.text(target),
            ..Default::default()
        };
        Ok(self.node().await?.node_get_volume_stats(request).await?.into_inner())
    }

    pub(crate) async fn delete(&self, volume: &str) -> anyhow::Result<()> {
        let request = csi::DeleteVolumeRequest { volume_id: volume.into(), ..Default::default() };
        self.controller().await?.delete_volume(request).await?;
        Ok(())
    }

    /// Nothing is mounted, served or kept any more.
    pub(crate) async fn nothing_left(&self) -> anyhow::Result<()> {
        self.until("nothing is mounted", || self.mounts().is_empty()).await?;
        self.until("nothing is served", || self.servers() == 0).await?;
        self.until("nothing is kept", || self.kept() == 0).await
    }

    fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = self.folder.path().to_string_lossy().into_owned();
        let places = table.lines().filter_map(|line| line.split(' ').nth(4));
        places.filter(|place| place.starts_with(&below)).map(str::to_owned).collect()
    }

    fn servers(&self) -> usize {
        let below = self.folder.path().to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines
            .filter(|line| {
                let line = String::from_utf8_lossy(line);
                line.contains(&below) && line.contains("\0server\0")
            })
            .count()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.kill_driver();
        for keeper in std::mem::take(&mut self.keepers) {
            let _ = self.shell.kill(&keeper);
        }
        for place in self.mounts() {
            let _ = self.shell.run(&format!("umount -l {place}; echo done"));
        }
        let _ = self.shell.child.kill();
        let _ = self.shell.child.wait();
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::os::unix::fs::MetadataExt::ino(&std::fs::symlink_metadata(path).ok()?).into()
}

/// How a volume is published.
#[derive(Clone)]
pub(crate) struct Wish<'a> {
    pub(crate) target: &'a str,
    pub(crate) capability: csi::VolumeCapability,
    pub(crate) read_only: bool,
    pub(crate) ephemeral: bool,
    pub(crate) context: &'a [(&'a str, &'a str)],
}

impl<'a> Wish<'a> {
    pub(crate) fn new(target: &'a str) -> Self {
        let capability = capability(Mode::MultiNodeMultiWriter);
        Self { target, capability, read_only: false, ephemeral: false, context: &[] }
    }

    fn context(&self) -> std::collections::HashMap<String, String> {
        self.context.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }
}

/// A folder used in this mode.
pub(crate) fn capability(mode: Mode) -> csi::VolumeCapability {
    csi::VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// The same for programs of a group.
pub(crate) fn of_group(group: &str) -> csi::VolumeCapability {
    let mount = MountVolume { volume_mount_group: group.into(), ..Default::default() };
    csi::VolumeCapability {
        access_type: Some(AccessType::Mount(mount)),
        ..capability(Mode::MultiNodeMultiWriter)
    }
}

/// The refusal of a call.
pub(crate) fn refused<T: std::fmt::Debug>(answer: anyhow::Result<T>) -> anyhow::Result<tonic::Status> {
    match answer {
        Ok(answer) => bail!("not refused: {answer:?}"),
        Err(error) => Ok(error.downcast::<tonic::Status>()?),
    }
}
