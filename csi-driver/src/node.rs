//! The calls about volumes on one node.
//!
//! A volume is mounted once on a node, at the place where the kubelet stages it, and bound from there to each pod. Whatever
//! is asked of a path is asked of the machine's table of mounts, never of the path: a mount whose cluster is away, or which is
//! dead, must not hold up the kubelet.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use steadfs_client::{FsPath, InodeId};
use steadfs_daemon::pool::DiskPool;
use steadfs_fuse::{Health, MountArgs, Mounts};
use steadfs_proto::csi;

use crate::capability::Use;
use crate::controller::{required, signed};
use crate::ephemeral::{self, Ephemeral};
use crate::handle::{Handle, is_versioned};
use crate::locks::Locks;
use crate::namespace::{Namespace, Usage, inode_path};
use crate::parameters::{block_size_for, folder};
use crate::places;
use crate::volumes::{Failure, Outcome, Volumes};

/// Names that a volume without a bound may still take, to who asks: as many as anybody cares for.
const NAMES: u64 = 1 << 40;
/// What a static volume's context may say.
const FOLDER: &str = "folder";
/// The kubelet's word that a volume lives and dies with its pod.
const IS_EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// What a node knows of itself.
#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    pub(crate) driver: String,
    pub(crate) node: String,
    pub(crate) url: String,
    pub(crate) local: PathBuf,
    /// Bytes of files that one volume's server may hold.
    pub(crate) volume_memory: u64,
    /// Volumes that may be mounted here at one time.
    pub(crate) max_volumes: u64,
}

/// The volumes of this node.
pub(crate) struct Node<N> {
    pub(crate) settings: NodeSettings,
    pub(crate) volumes: Arc<Volumes<N>>,
    pub(crate) ephemeral: Ephemeral<N>,
    pub(crate) mounts: Mounts,
    pub(crate) locks: Locks,
    /// Where mounts are bound and folders made.
    pub(crate) pool: DiskPool,
}

/// A folder of the cluster that is to be mounted.
struct Source {
    folder: FsPath,
    inode: InodeId,
    replication: Option<u16>,
    block_size: u64,
    /// Made by the driver, so that its group may be changed.
    ours: bool,
}

impl<N: Namespace> Node<N> {
    pub(crate) async fn stage(&self, request: csi::NodeStageVolumeRequest) -> Outcome<()> {
        required(&request.volume_id, "volume_id")?;
        let at = absolute(&request.staging_target_path, "staging_target_path")?;
        let wanted = Use::read(request.volume_capability.as_ref()).map_err(Failure::Invalid)?;
        let _held = self.locks.take(&request.volume_id)?;
        self.mount(&request.volume_id, &request.volume_context, &wanted, &at).await
    }

    /// Mounts a volume, or sees to it that it is mounted as it is wanted.
    async fn mount(
        &self,
        id: &str,
        context: &std::collections::HashMap<String, String>,
        wanted: &Use,
        at: &Path,
    ) -> Outcome<()> {
        let source = self.source(id, context).await?;
        if source.ours && !wanted.read_only {
            self.give_to_group(&source, wanted.group).await?;
        }
        self.mount_source(&source, wanted, at).await
    }

    async fn mount_source(&self, source: &Source, wanted: &Use, at: &Path) -> Outcome<()> {
        let known = self.mounts.arguments(at);
        if known.is_none() && self.mounts.served() as u64 >= self.settings.max_volumes {
            return Err(Failure::Exhausted(format!(
                "{} volumes are mounted on this node, as many as its memory for mounts allows: give the driver's node pods \
                 more (--memory)",
                self.mounts.served()
            )));
        }
        let folder = at.to_owned();
        // Where a dead mount lies, the folder is there, and looking at it fails.
        self.pool.run(move || places::make_folder(&folder)).await?;
        let args = self.arguments(source, wanted, at)?;
        // Groups of other pods with the same volume stay.
        let groups: Vec<u32> = known.map(|known| known.groups().to_vec()).unwrap_or_default();
        self.mounts.mount(args.with_groups(&groups)).await?;
        Ok(())
    }

    /// The arguments of a mount, each with its value in one, so that no value is taken for an argument.
    fn arguments(&self, source: &Source, wanted: &Use, at: &Path) -> Outcome<MountArgs> {
        let mut line: Vec<OsString> = vec!["--allow-other".into()];
        let mut add = |name: &str, value: OsString| {
            let mut argument = OsString::from(format!("{name}="));
            argument.push(value);
            line.push(argument);
        };
        let says =
            |name: &str| wanted.options.iter().any(|option| option.to_string_lossy().starts_with(name));
        add("--memory", self.settings.volume_memory.to_string().into());
        add("--local", self.settings.local.clone().into());
        if !says("--block-size") {
            add("--block-size", source.block_size.to_string().into());
        }
        if let Some(replication) = source.replication {
            add("--replication", replication.to_string().into());
        }
        if let Some(group) = wanted.group {
            add("--groups", group.to_string().into());
        }
        line.extend(wanted.options.iter().cloned());
        if wanted.read_only {
            line.push("--read-only".into());
        }
        line.push("--".into());
        line.push(format!("{}{}", self.settings.url, source.folder).into());
        line.push(at.into());
        Ok(MountArgs::from_line(line)?)
    }

    /// The folder of a volume: looked up, and with the right token on it, or named by an administrator.
    async fn source(&self, id: &str, context: &std::collections::HashMap<String, String>) -> Outcome<Source> {
        let Some(handle) = handle_of(id)? else { return self.static_source(id, context).await };
        let volume = self.volumes.find(&handle).await?;
        let folder = FsPath::parse(&volume.record.folder)?;
        let there = self.volumes.namespace.stat(&volume.record.folder).await?;
        if there.is_none_or(|there| there.inode != handle.inode) {
            return Err(Failure::Precondition(format!(
                "the folder of the volume is no longer at {folder}: rename it back"
            )));
        }
        let (replication, block_size) = (Some(volume.record.replication), volume.record.block_size);
        Ok(Source { folder, inode: handle.inode, replication, block_size, ours: true })
    }

    async fn static_source(
        &self,
        id: &str,
        context: &std::collections::HashMap<String, String>,
    ) -> Outcome<Source> {
        let said = context.get(FOLDER).ok_or_else(|| {
            Failure::NotFound(format!(
                "there is no volume {id}: a static volume says its folder in volumeAttributes, as folder: /data/x"
            ))
        })?;
        let unknown = context.keys().find(|key| {
            *key != FOLDER
                && !key.starts_with("csi.storage.k8s.io/")
                && !key.starts_with("storage.kubernetes.io/")
        });
        if let Some(unknown) = unknown {
            return Err(Failure::Invalid(format!(
                "volumeAttributes have a key `{unknown}` that is not known: known is folder"
            )));
        }
        let folder = folder(said).map_err(|why| Failure::Invalid(format!("the folder `{said}`: {why}")))?;
        self.volumes.outside(&folder)?;
        let there = self.volumes.namespace.stat(&folder.to_string()).await?;
        let there = there.filter(|there| there.directory).ok_or_else(|| {
            Failure::NotFound(format!(
                "{folder} is no folder of the cluster: a static volume wants one that exists"
            ))
        })?;
        Ok(Source {
            folder,
            inode: there.inode,
            replication: None,
            block_size: block_size_for(None),
            ours: false,
        })
    }

    /// What a kubelet would do with a disk: the programs' group has the volume. Only the top is changed: what is made in it
    /// takes over its group.
    async fn give_to_group(&self, source: &Source, group: Option<u32>) -> Outcome<()> {
        let Some(group) = group else { return Ok(()) };
        let (path, group) = (inode_path(source.inode), steadfs_fuse::group_name(group));
        let Some(there) = self.volumes.namespace.stat(&path).await? else { return Ok(()) };
        if there.group != group {
            self.volumes.namespace.set_owner(&path, None, Some(&group)).await?;
        }
        if there.mode & 0o070 != 0o070 {
            self.volumes.namespace.set_mode(&path, there.mode | 0o070).await?;
        }
        Ok(())
    }

    pub(crate) async fn unstage(&self, request: csi::NodeUnstageVolumeRequest) -> Outcome<()> {
        required(&request.volume_id, "volume_id")?;
        let at = absolute(&request.staging_target_path, "staging_target_path")?;
        let _held = self.locks.take(&request.volume_id)?;
        Ok(self.mounts.unmount(&at).await?)
    }

    pub(crate) async fn publish(&self, request: csi::NodePublishVolumeRequest) -> Outcome<()> {
        required(&request.volume_id, "volume_id")?;
        let target = absolute(&request.target_path, "target_path")?;
        let mut wanted = Use::read(request.volume_capability.as_ref()).map_err(Failure::Invalid)?;
        wanted.read_only |= request.readonly;
        let _held = self.locks.take(&request.volume_id)?;
        if request.volume_context.get(IS_EPHEMERAL).is_some_and(|said| said == "true") {
            return self.publish_ephemeral(&request, &wanted, &target).await;
        }
        let staged = absolute(&request.staging_target_path, "staging_target_path")?;
        self.see_to(&request, &wanted, &staged).await?;
        let single = wanted.is_single();
        self.pool.run(move || places::bind(&staged, &target, wanted.read_only, single)).await
    }

    /// The mount that is to be bound must be there and alive, with the pod's group in it.
    async fn see_to(
        &self,
        request: &csi::NodePublishVolumeRequest,
        wanted: &Use,
        staged: &Path,
    ) -> Outcome<()> {
        if places::mounted(staged)?.is_none() {
            return Err(Failure::Precondition(format!("{} is not staged", request.volume_id)));
        }
        // A pod's own wish to read only is a matter of its bind.
        let whole = Use { read_only: wanted.read_only && !request.readonly, ..wanted.clone() };
        let known = self.mounts.arguments(staged);
        let lacks = |known: &MountArgs| wanted.group.is_some_and(|group| !known.groups().contains(&group));
        if known.as_ref().is_none_or(lacks) {
            // Dead: the next pod gets one that lives.
            self.mount(&request.volume_id, &request.volume_context, &whole, staged).await?;
        }
        Ok(())
    }

    async fn publish_ephemeral(
        &self,
        request: &csi::NodePublishVolumeRequest,
        wanted: &Use,
        target: &Path,
    ) -> Outcome<()> {
        let made = self.ephemeral.make(&request.volume_id, target, &request.volume_context).await?;
        let source = Source {
            folder: made.folder,
            inode: made.inode,
            replication: made.replication,
            block_size: made.block_size,
            ours: true,
        };
        if !wanted.read_only {
            self.give_to_group(&source, wanted.group).await?;
        }
        self.mount_source(&source, wanted, target).await
    }

    /// Works whoever is away: the kernel's table is asked, and what the cluster must hear is told later if need be.
    pub(crate) async fn unpublish(&self, request: csi::NodeUnpublishVolumeRequest) -> Outcome<()> {
        required(&request.volume_id, "volume_id")?;
        let target = absolute(&request.target_path, "target_path")?;
        let _held = self.locks.take(&request.volume_id)?;
        self.mounts.unmount(&target).await?;
        let folder = target.clone();
        self.pool.run(move || places::remove_folder(&folder)).await?;
        if ephemeral::is_id(&request.volume_id) {
            self.ephemeral.delete(&request.volume_id).await;
        }
        Ok(())
    }

    pub(crate) async fn stats(
        &self,
        request: csi::NodeGetVolumeStatsRequest,
    ) -> Outcome<csi::NodeGetVolumeStatsResponse> {
        required(&request.volume_id, "volume_id")?;
        required(&request.volume_path, "volume_path")?;
        let at = absolute(&request.volume_path, "volume_path")
            .map_err(|_| Failure::NotFound(format!("there is no place {}", request.volume_path)))?;
        let place = places::mounted(&at)?
            .ok_or_else(|| Failure::NotFound(format!("nothing is mounted on {}", at.display())))?;
        let condition = condition(&self.mounts.health_of(&place.device));
        let Some(args) = self.mounts.arguments_of(&place.device) else {
            return Ok(csi::NodeGetVolumeStatsResponse {
                usage: Vec::new(),
                volume_condition: Some(condition),
            });
        };
        let asked = self.usage(&request.volume_id, &args).await;
        let (usage, condition) = match asked {
            Ok(usage) => (usage, condition),
            Err(Failure::NotFound(message)) => (Vec::new(), csi::VolumeCondition { abnormal: true, message }),
            Err(failure) if condition.abnormal => {
                tracing::debug!(?failure, "no usage of a volume that is not well");
                (Vec::new(), condition)
            }
            Err(failure) => {
                let message = tonic::Status::from(failure).message().to_owned();
                (Vec::new(), csi::VolumeCondition { abnormal: true, message })
            }
        };
        Ok(csi::NodeGetVolumeStatsResponse { usage, volume_condition: Some(condition) })
    }

    async fn usage(&self, id: &str, args: &MountArgs) -> Outcome<Vec<csi::VolumeUsage>> {
        let (path, replication) = match handle_of(id)? {
            Some(handle) => (inode_path(handle.inode), self.volumes.find(&handle).await?.record.replication),
            None => (args.folder()?.to_string(), args.replication().unwrap_or(0)),
        };
        let usage = self.volumes.namespace.usage(&path).await?;
        let room = self.volumes.namespace.room().await?;
        let replicas = u64::from(if replication == 0 { room.replication } else { replication }.max(1));
        Ok(told(usage, room.remaining, replicas))
    }

    pub(crate) fn info(&self) -> csi::NodeGetInfoResponse {
        let settings = &self.settings;
        // It becomes a label of the node, and a label has 63 characters.
        let fits = settings.node.len() <= 63;
        let segments = [(format!("topology.{}/node", settings.driver), settings.node.clone())];
        csi::NodeGetInfoResponse {
            node_id: settings.node.clone(),
            max_volumes_per_node: signed(settings.max_volumes),
            accessible_topology: fits.then(|| csi::Topology { segments: segments.into() }),
        }
    }
}

/// The handle of a volume that the driver made; none of a static one.
fn handle_of(id: &str) -> Outcome<Option<Handle>> {
    match id.parse() {
        Ok(handle) => Ok(Some(handle)),
        Err(_) if is_versioned(id) => Err(Failure::NotFound(format!("there is no volume {id}"))),
        Err(_) => Ok(None),
    }
}

fn condition(health: &Health) -> csi::VolumeCondition {
    let (abnormal, message) = match health {
        Health::Serving => (false, "the mount is served".to_owned()),
        Health::Waiting(why) => (true, format!("the mount waits for its server: {why}")),
        Health::Gone => {
            (true, "the mount is dead: delete the pods of this node that use the volume".to_owned())
        }
    };
    csi::VolumeCondition { abnormal, message }
}

/// Bytes as a program may write them: replicas not counted.
fn told(usage: Usage, remaining: u64, replicas: u64) -> Vec<csi::VolumeUsage> {
    let used = usage.space / replicas;
    let free = usage.space_quota.map_or(remaining, |quota| quota.saturating_sub(usage.space).min(remaining))
        / replicas;
    let total = usage.space_quota.map_or(used.saturating_add(free), |quota| quota / replicas);
    let names = usage.name_quota.unwrap_or(NAMES);
    let row = |unit: csi::volume_usage::Unit, total, used, available| csi::VolumeUsage {
        unit: unit.into(),
        total: signed(total),
        used: signed(used),
        available: signed(available),
    };
    vec![
        row(csi::volume_usage::Unit::Bytes, total, used, free),
        row(csi::volume_usage::Unit::Inodes, names, usage.names, names.saturating_sub(usage.names)),
    ]
}

/// A path as the kubelet writes it.
fn absolute(text: &str, name: &str) -> Outcome<PathBuf> {
    required(text, name)?;
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)));
    if !path.is_absolute() || !plain || path.parent().is_none() {
        return Err(Failure::Invalid(format!("{name} is `{text}`, which is no absolute path without `..`")));
    }
    // Without a slash at its end and doubled ones, as the table of mounts has it.
    Ok(path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_told_without_replicas() {
        let usage = Usage { space: 300, space_quota: Some(900), names: 5, name_quota: None };
        let told = told(usage, 10_000, 3);
        assert_eq!((told[0].used, told[0].total, told[0].available), (100, 300, 200));
        assert_eq!((told[1].used, told[1].total), (5, 1 << 40));
        // No more than the cluster has, nor less than nothing.
        let scarce = super::told(usage, 30, 3);
        assert_eq!((scarce[0].total, scarce[0].available), (300, 10));
        let over = super::told(Usage { space: 1_000, ..usage }, 30, 1);
        assert_eq!(over[0].available, 0);
        let unbound = super::told(Usage { space_quota: None, ..usage }, 600, 3);
        assert_eq!((unbound[0].total, unbound[0].available), (300, 200));
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(absolute("/a//b/", "p").unwrap(), Path::new("/a/b"));
        for wrong in ["", "a/b", "/", "/a/../b", ".."] {
            assert!(absolute(wrong, "p").is_err(), "{wrong}");
        }
    }
}
