//! Volumes: folders with a quota, and how they come and go.
//!
//! Everything that is known of a volume is written in the cluster. In the driver's own folder a volume has an **entry**, named
//! by the digest of its name, with a **record** as its attribute; the same record is an attribute of the volume's folder.
//!
//! ```text
//! /.steadfs/csi/volumes/KEY              the entry: exists from the first step to the last
//! /.steadfs/csi/volumes/KEY/folder       the folder while it is being made
//! /.steadfs/csi/deleting/KEY-TOKEN       the entry while the volume is being deleted
//! ```
//!
//! Every step can be done again, and a driver that ended between any two of them is followed by a call that goes on:
//!
//! * Made: the entry; its record, which only the first can write; the folder, whole, inside the entry; then one rename, which
//!   never replaces, puts it in its place. What has that place already is not touched, so that two volumes cannot have one
//!   folder.
//! * Deleted: one rename takes the entry away from the names that can be made; the folder goes, found by its inode and
//!   only with the right token on it; then the entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use steadfs_client::{FsError, FsErrorKind, FsPath, InodeId};

use crate::handle::{Handle, Key, Token};
use crate::namespace::{Folder, Namespace, inode_path};
use crate::parameters::{OnDelete, Parameters, block_size_for};

/// The attribute with a record.
pub(crate) const RECORD: &str = "trusted.steadfs.csi";
/// The version of records that are written.
const VERSION: u32 = 1;
/// Folders on the way to volumes: to be passed through, not to be listed.
const ABOVE: u16 = 0o711;
const OWN: u16 = 0o700;

/// What is remembered of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) folder: String,
    /// Bytes of files, replicas not counted, when it was made; the quota says how many it may hold now.
    pub(crate) capacity: Option<u64>,
    pub(crate) replication: u16,
    pub(crate) block_size: u64,
    pub(crate) on_delete: OnDelete,
    /// The parameters that say the same again.
    parameters: BTreeMap<String, String>,
}

/// A volume that exists.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) handle: Handle,
    pub(crate) record: Record,
    /// What it may hold now, in bytes of files.
    pub(crate) capacity: Option<u64>,
}

/// Why a call is not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request makes no sense, or asks for what is not allowed.
    Invalid(String),
    /// The name is taken by a volume that differs.
    Exists(String),
    NotFound(String),
    /// The size cannot be had.
    Range(String),
    /// Something is in the way that only a person can take away.
    Precondition(String),
    /// Something else is under way with that volume.
    Busy(String),
    /// A bound of this node is reached.
    Exhausted(String),
    /// What the cluster said.
    Cluster(FsError),
    /// Something on this node.
    Local(anyhow::Error),
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self::Cluster(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Local(error)
    }
}

/// What a call of the driver gives.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// A size as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) required: Option<u64>,
    pub(crate) limit: Option<u64>,
}

impl Sizes {
    pub(crate) fn check(self) -> Outcome<Self> {
        match (self.required, self.limit) {
            (Some(required), Some(limit)) if required > limit => {
                Err(Failure::Range(format!("at least {required} bytes and at most {limit} cannot both be")))
            }
            _ => Ok(self),
        }
    }

    /// The size of a new volume.
    fn wanted(self) -> Option<u64> {
        self.required.or(self.limit)
    }

    fn allows(self, capacity: Option<u64>) -> bool {
        match capacity {
            Some(capacity) => {
                self.required.is_none_or(|required| capacity >= required)
                    && self.limit.is_none_or(|limit| capacity <= limit)
            }
            None => self.wanted().is_none(),
        }
    }
}

/// The volumes of a cluster.
pub(crate) struct Volumes<N> {
    pub(crate) namespace: N,
    /// The driver's own folder.
    state: FsPath,
    /// Where folders of volumes are, if their class does not say.
    parent: FsPath,
}

impl<N: Namespace> Volumes<N> {
    pub(crate) const fn new(namespace: N, state: FsPath, parent: FsPath) -> Self {
        Self { namespace, state, parent }
    }

    fn entry(&self, key: &Key) -> String {
        format!("{}/volumes/{key}", self.state)
    }

    fn deleting(&self, key: &Key, token: &Token) -> String {
        format!("{}/deleting/{key}-{token}", self.state)
    }

    /// Makes a volume, or finds the one of this name that says the same.
    pub(crate) async fn create(
        &self,
        name: &str,
        sizes: Sizes,
        said: &BTreeMap<String, String>,
    ) -> Outcome<Volume> {
        let sizes = sizes.check()?;
        let parameters = Parameters::read(name, &self.parent, said).map_err(Failure::Invalid)?;
        self.outside(&parameters.folder)?;
        let key = Key::of(name);
        let known = self.record(&self.entry(&key)).await?;
        let record = match known {
            Some(record) => record,
            None => self.begin(&key, name, sizes, &parameters, said).await?,
        };
        if record.name != name || record.parameters != *said || record.folder != parameters.folder.to_string()
        {
            return Err(Failure::Exists(format!(
                "there is a volume `{name}` already, and its parameters are others"
            )));
        }
        let volume = self.finish(&key, record, &parameters).await?;
        if sizes.allows(volume.capacity) {
            return Ok(volume);
        }
        Err(Failure::Exists(format!(
            "there is a volume `{name}` already, of {} bytes, which is not what is asked for",
            volume.capacity.unwrap_or(0)
        )))
    }

    /// Refuses folders in the driver's own.
    pub(crate) fn outside(&self, folder: &FsPath) -> Outcome<()> {
        if folder.starts_with(&self.state) || self.state.starts_with(folder) {
            return Err(Failure::Invalid(format!(
                "{folder} is the driver's own, or holds it: name another folder"
            )));
        }
        Ok(())
    }

    /// Writes the entry and its record. Of several that do so at once all get the record of one.
    async fn begin(
        &self,
        key: &Key,
        name: &str,
        sizes: Sizes,
        parameters: &Parameters,
        said: &BTreeMap<String, String>,
    ) -> Outcome<Record> {
        let room = self.namespace.room().await?;
        let replication = parameters.replication.unwrap_or(room.replication);
        let capacity = sizes.wanted();
        if let Some(capacity) = capacity
            && capacity.checked_mul(u64::from(replication)).is_none_or(|space| space > room.capacity)
        {
            return Err(Failure::Range(format!(
                "{capacity} bytes in {replication} replicas are more than the cluster has ({} bytes)",
                room.capacity
            )));
        }
        let record = Record {
            version: VERSION,
            name: name.to_owned(),
            token: Token::random().to_string(),
            folder: parameters.folder.to_string(),
            capacity,
            replication,
            block_size: parameters.block_size.unwrap_or_else(|| block_size_for(capacity)),
            on_delete: parameters.on_delete,
            parameters: said.clone(),
        };
        let entry = self.entry(key);
        self.namespace.make(&format!("{}/deleting", self.state), OWN, OWN).await?;
        self.namespace.make(&entry, OWN, OWN).await?;
        match self.namespace.set_attribute(&entry, RECORD, &record.bytes()?, true).await {
            Ok(()) => Ok(record),
            // Somebody was faster.
            Err(error) => self.record(&entry).await?.ok_or(Failure::Cluster(error)),
        }
    }

    /// Brings the folder of a record into its place, if it is not there yet.
    async fn finish(&self, key: &Key, record: Record, parameters: &Parameters) -> Outcome<Volume> {
        let folder = record.folder.clone();
        if let Some(found) = self.namespace.stat(&folder).await? {
            return self.volume(key, record, &found, &folder).await;
        }
        let made = format!("{}/folder", self.entry(key));
        self.namespace.make(&made, OWN, OWN).await?;
        let quota = record.capacity.map(|capacity| capacity.saturating_mul(u64::from(record.replication)));
        if quota.is_some() {
            self.namespace.set_space_quota(&made, quota).await?;
        }
        if let Some(policy) = &parameters.policy {
            self.namespace.set_policy(&made, policy).await.map_err(of_the_request)?;
        }
        if parameters.owner.is_some() || parameters.group.is_some() {
            let (owner, group) = (parameters.owner.as_deref(), parameters.group.as_deref());
            self.namespace.set_owner(&made, owner, group).await?;
        }
        self.namespace.set_mode(&made, parameters.mode).await?;
        self.namespace.set_attribute(&made, RECORD, &record.bytes()?, false).await?;
        if let Some(parent) = parameters.folder.parent().filter(|parent| !parent.is_root()) {
            self.namespace.make(&parent.to_string(), ABOVE, ABOVE).await.map_err(of_the_request)?;
        }
        if let Err(error) = self.namespace.rename(&made, &folder).await {
            // Another call may have done it.
            return match self.namespace.stat(&folder).await? {
                Some(found) => self.volume(key, record, &found, &folder).await,
                None => Err(of_the_request(error)),
            };
        }
        let found = self.namespace.stat(&folder).await?.ok_or_else(|| gone(&folder))?;
        self.volume(key, record, &found, &folder).await
    }

    /// The volume whose folder was found in its place.
    async fn volume(&self, key: &Key, record: Record, found: &Folder, folder: &str) -> Outcome<Volume> {
        let written = if found.directory { self.record(folder).await? } else { None };
        if written.as_ref().map(|written| &written.token) != Some(&record.token) {
            let whose = written.map_or_else(
                || "which no volume has".to_owned(),
                |other| format!("which is the volume `{}`", other.name),
            );
            return Err(Failure::Precondition(format!(
                "{folder} exists, {whose}: two volumes cannot have one folder. Rename it, choose another subFolder, or use it \
                 as a static volume"
            )));
        }
        let token = Token::parse(&record.token).ok_or_else(|| foreign(folder))?;
        let handle = Handle { key: key.clone(), inode: found.inode, token };
        let capacity = self.capacity(&record, folder).await?;
        Ok(Volume { handle, record, capacity })
    }

    /// What a volume may hold now.
    async fn capacity(&self, record: &Record, path: &str) -> Outcome<Option<u64>> {
        let usage = self.namespace.usage(path).await?;
        Ok(usage.space_quota.map(|quota| quota / u64::from(record.replication.max(1))))
    }

    async fn record(&self, path: &str) -> Outcome<Option<Record>> {
        let bytes = match self.namespace.attribute(path, RECORD).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == FsErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        bytes.map(|bytes| Record::read(&bytes).ok_or_else(|| foreign(path))).transpose()
    }

    /// The volume of a handle: its folder by the inode, with the token that the handle says.
    pub(crate) async fn find(&self, handle: &Handle) -> Outcome<Volume> {
        let path = inode_path(handle.inode);
        let record = self.record(&path).await?;
        let record = record.ok_or_else(|| Failure::NotFound(format!("there is no volume {handle}")))?;
        if record.token != handle.token.to_string() || Key::of(&record.name) != handle.key {
            return Err(Failure::NotFound(format!(
                "there is no volume {handle}: the handle was not given out"
            )));
        }
        let capacity = self.capacity(&record, &path).await?;
        Ok(Volume { handle: handle.clone(), record, capacity })
    }

    /// Deletes a volume; done if there is none.
    pub(crate) async fn delete(&self, handle: &Handle) -> Outcome<()> {
        let (entry, deleting) = (self.entry(&handle.key), self.deleting(&handle.key, &handle.token));
        let known = self.record(&entry).await?;
        if known.is_some_and(|record| record.token == handle.token.to_string())
            && let Err(error) = self.namespace.rename(&entry, &deleting).await
            && self.namespace.stat(&deleting).await?.is_none()
        {
            return Err(error.into());
        }
        // Gone already, whoever has its name now; or somebody made the handle up.
        let Some(record) = self.record(&deleting).await? else { return Ok(()) };
        let folder = inode_path(handle.inode);
        // Only what is surely the volume's; an inode that says something else is somebody's.
        if let Some(written) = self.record(&folder).await?
            && written.token == record.token
        {
            match record.on_delete {
                OnDelete::Delete => self.namespace.delete(&folder).await?,
                OnDelete::Retain => {
                    self.namespace.set_space_quota(&folder, None).await?;
                    self.namespace.remove_attribute(&folder, RECORD).await?;
                }
            }
        }
        Ok(self.namespace.delete(&deleting).await?)
    }

    /// Lets a volume hold more.
    pub(crate) async fn expand(&self, handle: &Handle, sizes: Sizes) -> Outcome<u64> {
        let sizes = sizes.check()?;
        let volume = self.find(handle).await?;
        let wanted = sizes.wanted().ok_or_else(|| Failure::Invalid("a size is missing".into()))?;
        if let Some(capacity) = volume.capacity {
            if sizes.limit.is_some_and(|limit| limit < capacity) {
                return Err(Failure::Range(format!(
                    "the volume has {capacity} bytes, and volumes are not made smaller"
                )));
            }
            if sizes.required.is_none_or(|required| required <= capacity) {
                return Ok(capacity);
            }
        }
        let replication = u64::from(volume.record.replication.max(1));
        let space = wanted.checked_mul(replication);
        let room = self.namespace.room().await?;
        let space = space.filter(|space| *space <= room.capacity).ok_or_else(|| {
            Failure::Range(format!(
                "{wanted} bytes in {replication} replicas are more than the cluster has ({} bytes)",
                room.capacity
            ))
        })?;
        self.namespace.set_space_quota(&inode_path(handle.inode), Some(space)).await?;
        Ok(wanted)
    }

    /// A page of volumes, in the order in which they were made: those whose entries come after `after`. What is half made
    /// or half gone is passed over.
    pub(crate) async fn list(&self, after: u64, limit: usize) -> Outcome<(Vec<Volume>, Option<u64>)> {
        let folder = format!("{}/volumes", self.state);
        let entries = self.namespace.entries(&folder, InodeId(after), limit.saturating_add(1)).await?;
        let next = (entries.len() > limit).then(|| entries[limit - 1].0.0);
        let mut volumes = Vec::new();
        for (_, name) in entries.into_iter().take(limit) {
            let Some(key) = Key::parse(&name) else { continue };
            match self.listed(&key).await {
                Ok(volume) => volumes.extend(volume),
                // Of a newer version, or deleted between two questions.
                Err(Failure::Precondition(_)) => {}
                Err(Failure::Cluster(error)) if error.kind() == FsErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((volumes, next))
    }

    async fn listed(&self, key: &Key) -> Outcome<Option<Volume>> {
        let Some(record) = self.record(&self.entry(key)).await? else { return Ok(None) };
        let folder = record.folder.clone();
        let Some(found) = self.namespace.stat(&folder).await? else { return Ok(None) };
        self.volume(key, record, &found, &folder).await.map(Some)
    }
}

/// What the cluster refuses because of what was asked for.
fn of_the_request(error: FsError) -> Failure {
    match error.kind() {
        FsErrorKind::InvalidArgument | FsErrorKind::ParentNotDirectory | FsErrorKind::NotFound => {
            Failure::Invalid(error.message().to_owned())
        }
        _ => Failure::Cluster(error),
    }
}

fn gone(folder: &str) -> Failure {
    Failure::Busy(format!("{folder} went away while it was being made"))
}

fn foreign(path: &str) -> Failure {
    Failure::Precondition(format!(
        "what is written on {path} as {RECORD} is not understood: was it made by a newer version of the driver?"
    ))
}

impl Record {
    fn bytes(&self) -> Outcome<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Failure::Local(error.into()))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|record| record.version == VERSION)
    }
}

#[cfg(test)]
#[path = "volumes_test.rs"]
mod tests;
