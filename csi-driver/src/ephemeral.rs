//! Volumes that live and die with a pod: asked for inline in the pod, made when it is published, gone when it is
//! unpublished.
//!
//! What a pod's author may say is how large, never where: folders are the driver's, one a node. A volume of which the cluster
//! could not be told that it is gone is found later: its folder says where it was published, and there is no such place any
//! more. That nothing is mounted there does not tell: after a restart of the node its pods go on, and are mounted again.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use steadfs_client::{FsPath, InodeId};
use steadfs_common::Name;

use crate::controller::bounded;
use crate::locks::Locks;
use crate::namespace::Namespace;
use crate::parameters::{Refused, block_size, block_size_for, mode, replication, size};
use crate::volumes::{Failure, Outcome, RECORD, Volumes};

const ABOVE: u16 = 0o711;
const OWN: u16 = 0o700;
/// Folders looked at in one sweep at most.
const SWEPT: usize = 1_000;
/// What the kubelet calls the folder that holds those of all its pods.
const PODS: &str = "pods";

/// The ephemeral volumes of a node.
pub(crate) struct Ephemeral<N> {
    pub(crate) volumes: Arc<Volumes<N>>,
    /// This node's folder for them.
    folder: FsPath,
}

/// A folder that was made.
pub(crate) struct Made {
    pub(crate) folder: FsPath,
    pub(crate) inode: InodeId,
    pub(crate) replication: Option<u16>,
    pub(crate) block_size: u64,
}

/// What is written on the folder.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    target: PathBuf,
}

/// What a pod may say of its volume.
#[derive(Debug, PartialEq, Eq)]
struct Wishes {
    size: Option<u64>,
    replication: Option<u16>,
    block_size: Option<u64>,
    mode: u16,
}

impl Wishes {
    fn read(said: &BTreeMap<String, String>) -> Result<Self, Refused> {
        let mut read = Self { size: None, replication: None, block_size: None, mode: 0o777 };
        for (key, value) in said {
            let wrong = |why: Refused| format!("the volume attribute `{key}` is `{value}`: {why}");
            match key.as_str() {
                "size" => read.size = Some(size(value).map_err(wrong)?),
                "replication" => read.replication = Some(replication(value).map_err(wrong)?),
                "blockSize" => read.block_size = Some(block_size(value).map_err(wrong)?),
                "mode" => read.mode = mode(value).map_err(wrong)?,
                _ if key.starts_with("csi.storage.k8s.io/") => {}
                _ => {
                    return Err(format!(
                        "the volume attribute `{key}` is not known: known are size, replication, blockSize, mode"
                    ));
                }
            }
        }
        Ok(read)
    }
}

/// Whether the kubelet gives such names to inline volumes.
pub(crate) fn is_id(id: &str) -> bool {
    id.strip_prefix("csi-").is_some_and(|digits| {
        digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

impl<N: Namespace> Ephemeral<N> {
    /// Those of `node`, below `parent`.
    pub(crate) fn new(volumes: Arc<Volumes<N>>, parent: &FsPath, node: &str) -> anyhow::Result<Self> {
        let node = Name::new(node).map_err(|error| anyhow::anyhow!("--node {node}: {}", error.message()))?;
        Ok(Self { volumes, folder: parent.join(node) })
    }

    /// Makes the folder of a volume, or finds it.
    pub(crate) async fn make(
        &self,
        id: &str,
        target: &Path,
        said: &HashMap<String, String>,
    ) -> Outcome<Made> {
        let folder = self.folder_of(id)?;
        let wishes = Wishes::read(&bounded(said.clone())?).map_err(Failure::Invalid)?;
        let (path, namespace) = (folder.to_string(), &self.volumes.namespace);
        namespace.make(&path, ABOVE, OWN).await?;
        // First, so that a folder without a pod is always known for one.
        let record = Record { version: 1, target: target.to_owned() };
        let record = serde_json::to_vec(&record).map_err(|error| Failure::Local(error.into()))?;
        namespace.set_attribute(&path, RECORD, &record, false).await?;
        if let Some(size) = wishes.size {
            let room = namespace.room().await?;
            let replicas = u64::from(wishes.replication.unwrap_or(room.replication));
            namespace.set_space_quota(&path, Some(size.saturating_mul(replicas))).await?;
        }
        namespace.set_mode(&path, wishes.mode).await?;
        let there = namespace.stat(&path).await?;
        let there =
            there.ok_or_else(|| Failure::Busy(format!("{path} went away while it was being made")))?;
        Ok(Made {
            folder,
            inode: there.inode,
            replication: wishes.replication,
            block_size: wishes.block_size.unwrap_or_else(|| block_size_for(wishes.size)),
        })
    }

    fn folder_of(&self, id: &str) -> Outcome<FsPath> {
        let name = Name::new(id).ok().filter(|_| is_id(id));
        let name =
            name.ok_or_else(|| Failure::Invalid(format!("`{id}` is no handle of an inline volume")))?;
        Ok(self.folder.join(name))
    }

    /// Deletes a volume's folder; what the cluster does not hear now it hears in a sweep.
    pub(crate) async fn delete(&self, id: &str) {
        let Ok(folder) = self.folder_of(id) else { return };
        if let Err(error) = self.volumes.namespace.delete(&folder.to_string()).await {
            tracing::warn!(%folder, %error, "an inline volume is deleted later");
        }
    }

    /// Deletes the folders of volumes that are not published any more.
    pub(crate) async fn sweep(&self, locks: &Locks) -> Outcome<()> {
        let entries = self.volumes.namespace.entries(&self.folder.to_string(), InodeId(0), SWEPT).await?;
        for (_, id) in entries {
            // Who is just being published has no mount yet.
            let Ok(_held) = locks.take(&id) else { continue };
            let Ok(folder) = self.folder_of(&id) else { continue };
            let Some(bytes) = self.volumes.namespace.attribute(&folder.to_string(), RECORD).await? else {
                continue;
            };
            let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { continue };
            if record.version == 1 && is_gone(&record.target) {
                tracing::info!(%folder, "an inline volume of a pod that is gone is deleted");
                self.delete(&id).await;
            }
        }
        Ok(())
    }
}

/// Whether there is certainly nothing at a pod's place any more. That says nothing where not even the folder of all pods is
/// to be seen: then the driver was given another folder of the kubelet than that in which the volume was published.
fn is_gone(target: &Path) -> bool {
    // A volume may be called so as well.
    let pods = target.ancestors().filter(|above| above.ends_with(PODS)).last();
    is_absent(target) && pods.is_none_or(|pods| std::fs::metadata(pods).is_ok_and(|pods| pods.is_dir()))
}

/// Whether there is certainly nothing at a path.
fn is_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_that_is_not_there_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_absent(folder.path()), "a pod's folder, before the kubelet mounts again");
        assert!(is_absent(&folder.path().join("mount")));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!is_absent(&file.join("mount")), "what cannot be looked at may be there");
    }

    #[test]
    fn nothing_is_gone_where_no_pods_are_to_be_seen() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("kubelet/pods/uid/volumes/kubernetes.io~csi/pods/mount");
        assert!(!is_gone(&target), "another folder of the kubelet is seen");
        let pods = folder.path().join("kubelet/pods");
        std::fs::create_dir_all(&pods).unwrap();
        assert!(is_gone(&target));
        std::fs::create_dir_all(&target).unwrap();
        assert!(!is_gone(&target));
    }

    fn read(said: &[(&str, &str)]) -> Result<Wishes, Refused> {
        Wishes::read(&said.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_pod_says_how_large_and_never_where() {
        let wishes =
            read(&[("size", "1Gi"), ("mode", "0700"), ("csi.storage.k8s.io/pod.name", "p")]).unwrap();
        assert_eq!((wishes.size, wishes.mode), (Some(1 << 30), 0o700));
        for (key, value) in
            [("folder", "/data"), ("parent", "/x"), ("size", "-1"), ("mode", "8"), ("replication", "no")]
        {
            assert!(read(&[(key, value)]).unwrap_err().contains(key));
        }
    }

    #[test]
    fn only_a_kubelets_names_are_names() {
        assert!(is_id(&format!("csi-{}", "0a".repeat(32))));
        for wrong in
            ["csi-", "csi-../../x", &format!("csi-{}", "0A".repeat(32)), &format!("x{}", "0a".repeat(33))]
        {
            assert!(!is_id(wrong), "{wrong}");
        }
    }
}
