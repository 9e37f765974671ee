//! The datanodes: who they are, what they have, and whether they live.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::limits::MAX_PRINCIPAL_BYTES;
use steadfs_common::{BlockId, DatanodeUuid, FsError, FsErrorKind, FsResult, Millis, StorageId, StorageType};

use super::admin::{AdminState, Lacking};
use super::doubles::Doubles;
use super::places::StorageIndex;
use super::recent::Recent;
use super::roster::Wish;
use super::slow::PeerLatency;
use super::work::Orders;
use crate::locality::Pods;
use crate::placement::{Machine, Topology, Volume};

/// Most datanodes known at a time, dead ones included.
pub const MAX_DATANODES: usize = 16_384;
/// Most volumes of one datanode.
pub const MAX_VOLUMES: usize = 256;
/// Most volumes in all: what a [`StorageIndex`] can name.
pub const MAX_STORAGES: usize = 1 << 16;
/// Earlier lives of a datanode that are remembered, to refuse them.
const MAX_SESSIONS: usize = 16;
/// Reports of one volume that broke off, as far as they are remembered.
const MAX_BROKEN_OFF: usize = 4;
/// The rack of a datanode that names none.
pub const DEFAULT_RACK: &str = "/default-rack";

/// Where a datanode is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where it is dialled.
    pub ip: IpAddr,
    /// Its host name.
    pub host: String,
    /// Port of the data-transfer protocol.
    pub data_port: u16,
    /// Port of Hadoop RPC and gRPC.
    pub ipc_port: u16,
    /// Port of HTTP; 0 for none.
    pub http_port: u16,
}

/// A volume as its datanode reports it; sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeReport {
    /// Its id.
    pub id: StorageId,
    /// What it is.
    pub kind: StorageType,
    /// Whether the datanode gave it up.
    pub failed: bool,
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes used by replicas.
    pub used: u64,
    /// Bytes free for replicas.
    pub remaining: u64,
}

/// A datanode that begins a life.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Who it is.
    pub uuid: DatanodeUuid,
    /// Which life: a number it never used before.
    pub session: u64,
    /// Where it is reached.
    pub address: Address,
    /// Its version.
    pub version: String,
    /// Its rack; empty for the default.
    pub rack: String,
    /// The (Kubernetes) node that it runs on; empty if it has none.
    pub node: String,
    /// All its volumes.
    pub volumes: Vec<VolumeReport>,
}

/// A datanode that lives.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Who it is.
    pub uuid: DatanodeUuid,
    /// Which life.
    pub session: u64,
    /// Where it is reached now.
    pub address: Address,
    /// Its volumes as they are now.
    pub volumes: Vec<VolumeReport>,
    /// Reads and writes it serves.
    pub active_transfers: u32,
    /// How fast it finds others.
    pub peers: Vec<PeerLatency>,
    /// Which heartbeat of this life it is, from 1; 0 if it does not say.
    pub number: u64,
    /// The last one whose answer arrived.
    pub answered: u64,
    /// It is the last one: this life ends.
    pub ending: bool,
}

/// A datanode by its index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeIndex(pub u16);

/// A known datanode.
#[derive(Debug)]
pub struct Datanode {
    /// Who it is.
    pub uuid: DatanodeUuid,
    /// Where it is reached.
    pub address: Address,
    /// Its version.
    pub version: String,
    /// Its rack; begins with `/`.
    pub rack: Arc<str>,
    /// It named its rack itself: nobody knows better.
    named_rack: bool,
    /// The (Kubernetes) node that it runs on; empty if it has none.
    pub node: String,
    /// Whether it is heard.
    pub live: bool,
    /// When it was heard last.
    pub last_heartbeat: Millis,
    /// It said that this life of it ends: a short absence, so its replicas count on until it is dead.
    pub ended: bool,
    /// When it reported all its replicas last; 0 for never.
    pub last_report: Millis,
    /// Reads and writes it serves.
    pub active_transfers: u32,
    /// Whether it serves, or leaves.
    pub admin: AdminState,
    /// What keeps it from leaving, as the last pass found.
    pub lacking: Lacking,
    /// Others find it slow.
    pub slow: bool,
    /// How long it takes to take a packet, as its peers find: the median of what they say of the last minutes.
    pub latency: Option<Duration>,
    /// What each of them said last, and when.
    pub(super) latencies: BTreeMap<NodeIndex, (Duration, Millis)>,
    /// What the operator wants of it.
    pub(super) wish: Wish,
    pub(super) session: u64,
    /// The session's changes before this number were taken.
    pub(super) taken: u64,
    /// Sessions that were replaced.
    retired: VecDeque<u64>,
    /// Others that asked to be it.
    pub(super) doubles: Doubles,
    pub(super) storages: SmallVec<[StorageIndex; 4]>,
    /// When it shall be asked for a full report.
    pub(super) report_due: Option<Millis>,
    pub(super) orders: Orders,
}

impl Datanode {
    /// Whether it counts as living but is away: it was not heard for a while, or said that it ends.
    #[must_use]
    pub fn is_stale(&self, now: Millis, after: Duration) -> bool {
        self.live && (self.ended || now.since(self.last_heartbeat) >= after)
    }
}

/// A full report under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportProgress {
    pub(super) report: u64,
    /// When its first slice came.
    pub(super) began: Millis,
    /// Replicas before this id were compared; none once all were.
    pub(super) next: Option<BlockId>,
    /// When it began, nothing was known to be on its volume: what was noted since is in the report, or newer.
    pub(super) first: bool,
}

/// A known volume.
#[derive(Debug)]
pub struct Storage {
    /// What its datanode says of it.
    pub report: VolumeReport,
    /// Good replicas of complete blocks on it.
    pub blocks: u64,
    pub(super) node: NodeIndex,
    /// Whether all its replicas were reported in this life of its datanode: only then may a replica elsewhere be
    /// deleted because there is one here.
    pub(super) reported: bool,
    /// Gone: its replicas are being forgotten.
    pub(super) dropped: bool,
    pub(super) progress: Option<ReportProgress>,
    /// The last reports that did not come to their end. Slices of theirs that waited for their turn are not taken: they would
    /// be compared as if they began at the first block, and take away what lies before them.
    pub(super) broken_off: SmallVec<[u64; MAX_BROKEN_OFF]>,
    pub(super) recent: Recent,
}

impl Storage {
    /// The report under way, if there is one, will not come to its end.
    pub(super) fn break_report_off(&mut self) {
        if let Some(progress) = self.progress.take() {
            if self.broken_off.len() >= MAX_BROKEN_OFF {
                self.broken_off.remove(0);
            }
            self.broken_off.push(progress.report);
        }
    }
}

/// All known datanodes and their volumes.
#[derive(Debug, Default)]
pub struct Datanodes {
    nodes: Vec<Datanode>,
    storages: Vec<Storage>,
    by_uuid: BTreeMap<DatanodeUuid, NodeIndex>,
    by_storage: BTreeMap<StorageId, StorageIndex>,
}

fn not_registered(message: String) -> FsError {
    FsError::new(FsErrorKind::NotRegistered, message)
}

fn checked_rack(rack: &str) -> FsResult<Arc<str>> {
    if rack.is_empty() {
        return Ok(DEFAULT_RACK.into());
    }
    let odd = rack.len() > MAX_PRINCIPAL_BYTES || rack.chars().any(char::is_control);
    if odd || !rack.starts_with('/') || rack.len() < 2 || rack.ends_with('/') {
        return Err(FsError::invalid_argument(
            "a rack begins with `/`, names at least one level and does not end with `/`",
        ));
    }
    Ok(rack.into())
}

impl Datanodes {
    /// The datanode at an index that this gave out.
    #[must_use]
    pub fn node(&self, at: NodeIndex) -> &Datanode {
        &self.nodes[usize::from(at.0)]
    }

    pub(super) fn node_mut(&mut self, at: NodeIndex) -> &mut Datanode {
        &mut self.nodes[usize::from(at.0)]
    }

    /// The volume at an index that this gave out.
    #[must_use]
    pub fn storage(&self, at: StorageIndex) -> &Storage {
        &self.storages[usize::from(at.0)]
    }

    pub(super) fn storage_mut(&mut self, at: StorageIndex) -> &mut Storage {
        &mut self.storages[usize::from(at.0)]
    }

    /// The datanode that has this volume.
    #[must_use]
    pub fn owner(&self, at: StorageIndex) -> &Datanode {
        self.node(self.storage(at).node)
    }

    /// The volume's index.
    #[must_use]
    pub fn find_storage(&self, id: StorageId) -> Option<StorageIndex> {
        self.by_storage.get(&id).copied()
    }

    /// The datanode's index.
    #[must_use]
    pub fn find(&self, uuid: DatanodeUuid) -> Option<NodeIndex> {
        self.by_uuid.get(&uuid).copied()
    }

    /// All of them, by uuid, with their volumes.
    pub fn iter(&self) -> impl Iterator<Item = (&Datanode, impl Iterator<Item = &Storage>)> {
        self.by_uuid.values().map(|at| {
            let node = self.node(*at);
            (node, node.storages.iter().map(|storage| self.storage(*storage)))
        })
    }

    pub(super) fn indexes(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.nodes.len() as u16).map(NodeIndex)
    }

    /// How many are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.nodes.iter().filter(|node| node.live).count()
    }

    /// How many are live and serve.
    #[must_use]
    pub fn serving(&self) -> usize {
        self.nodes.iter().filter(|node| node.live && node.admin.serves()).count()
    }

    /// Whether a replica there can be read.
    pub(super) fn counts(&self, at: StorageIndex) -> bool {
        let storage = self.storage(at);
        !storage.dropped && self.node(storage.node).live
    }

    /// Whether every volume of a live datanode has reported its replicas.
    pub(super) fn all_reported(&self) -> bool {
        self.storages
            .iter()
            .all(|storage| storage.dropped || storage.reported || !self.node(storage.node).live)
    }

    /// Puts datanodes that name a node and no rack in the rack of their node. What is not known leaves them where they are.
    pub(super) fn find_racks(&mut self, pods: &Pods) {
        for node in self.nodes.iter_mut().filter(|node| !node.named_rack) {
            if let Some(rack) = pods.rack(&node.node)
                && checked_rack(rack).is_ok()
            {
                node.rack = Arc::clone(rack);
            }
        }
    }

    /// The picture that placement works with.
    pub(super) fn topology(
        &self,
        now: Millis,
        stale_after: Duration,
        promised: &BTreeMap<StorageIndex, u64>,
    ) -> Topology {
        let machine = |node: &Datanode| Machine {
            uuid: node.uuid,
            ip: node.address.ip,
            host: node.address.host.clone(),
            port: node.address.data_port,
            rack: Arc::clone(&node.rack),
            node: node.node.clone(),
            live: node.live,
            open: node.admin.serves(),
            stale: node.is_stale(now, stale_after),
            slow: node.slow,
            volumes: node
                .storages
                .iter()
                .map(|at| (at, self.storage(*at)))
                .filter(|(_, storage)| !storage.dropped)
                .map(|(at, storage)| Volume {
                    id: storage.report.id,
                    kind: storage.report.kind,
                    free: storage.report.remaining,
                    promised: promised.get(at).copied().unwrap_or(0),
                })
                .collect(),
        };
        Topology::new(self.by_uuid.values().map(|at| machine(self.node(*at))).collect())
    }

    /// The live datanode with this uuid and session; none if it must register (again).
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for an earlier life of a datanode.
    pub(super) fn session(&self, uuid: DatanodeUuid, session: u64) -> FsResult<Option<NodeIndex>> {
        let Some(at) = self.find(uuid) else { return Ok(None) };
        let node = self.node(at);
        if node.retired.contains(&session) {
            return Err(not_registered(format!(
                "datanode {uuid} was started again since: this is an earlier life of it, and must end"
            )));
        }
        Ok((node.session == session && node.live).then_some(at))
    }

    /// Checks that every volume may belong to `uuid`, and that there is room for the new ones.
    fn check_volumes(&self, uuid: DatanodeUuid, volumes: &[VolumeReport]) -> FsResult<()> {
        if volumes.len() > MAX_VOLUMES {
            return Err(FsError::invalid_argument(format!("a datanode has at most {MAX_VOLUMES} volumes")));
        }
        for volume in volumes {
            let owner = self.find_storage(volume.id).map(|at| self.node(self.storage(at).node));
            if let Some(owner) = owner
                && owner.uuid != uuid
                && owner.live
            {
                return Err(not_registered(format!(
                    "storage {} belongs to datanode {} at {}, which is alive: a volume was copied; give one of them an \
                     empty volume",
                    volume.id, owner.uuid, owner.address.ip
                )));
            }
        }
        let new = volumes.iter().filter(|volume| !self.by_storage.contains_key(&volume.id)).count();
        if self.storages.len() + new > MAX_STORAGES {
            return Err(FsError::new(
                FsErrorKind::Retriable,
                format!("more than {MAX_STORAGES} volumes are known"),
            ));
        }
        Ok(())
    }

    /// Takes a datanode in, in place of an earlier life of it.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for an earlier life, a copied volume, or a copy of a datanode that is heard;
    /// [`FsErrorKind::Retriable`] past a limit, or while the known one may still run elsewhere.
    pub(super) fn register(
        &mut self,
        registration: Registration,
        now: Millis,
        heartbeat: Duration,
    ) -> FsResult<NodeIndex> {
        self.session(registration.uuid, registration.session)?;
        if let Some(known) = self.find(registration.uuid) {
            self.node_mut(known).may_be(&registration, now, heartbeat)?;
        }
        let Registration { uuid, session, address, version, rack, node, volumes } = registration;
        self.check_volumes(uuid, &volumes)?;
        let named_rack = !rack.is_empty();
        let rack = checked_rack(&rack)?;
        let fresh = Datanode {
            uuid,
            address,
            version,
            rack,
            named_rack,
            node,
            live: true,
            last_heartbeat: now,
            ended: false,
            last_report: Millis(0),
            active_transfers: 0,
            admin: AdminState::Normal,
            lacking: Lacking::default(),
            slow: false,
            latency: None,
            latencies: BTreeMap::new(),
            wish: Wish::InService,
            session,
            taken: 0,
            retired: VecDeque::new(),
            doubles: Doubles::default(),
            storages: SmallVec::new(),
            report_due: None,
            orders: Orders::default(),
        };
        let at = match self.find(uuid) {
            Some(at) => {
                let old = std::mem::replace(self.node_mut(at), fresh);
                let node = self.node_mut(at);
                (node.admin, node.wish, node.lacking) = (old.admin, old.wish, old.lacking);
                (node.slow, node.latency, node.latencies) = (old.slow, old.latency, old.latencies);
                node.retired = old.retired;
                if old.session == session {
                    node.taken = old.taken;
                } else {
                    node.retired.push_back(old.session);
                    let extra = node.retired.len().saturating_sub(MAX_SESSIONS);
                    node.retired.drain(..extra);
                }
                node.storages = old.storages;
                node.orders = old.orders;
                at
            }
            None => {
                if self.nodes.len() >= MAX_DATANODES {
                    return Err(FsError::new(
                        FsErrorKind::Retriable,
                        format!(
                            "{MAX_DATANODES} datanodes are known; restart the namenode to forget dead ones"
                        ),
                    ));
                }
                self.nodes.push(fresh);
                let at = NodeIndex((self.nodes.len() - 1) as u16);
                self.by_uuid.insert(uuid, at);
                at
            }
        };
        for volume in volumes {
            self.put_volume(at, volume);
        }
        Ok(at)
    }

    /// Notes a volume's state; a new one, or one of a dead datanode, becomes this datanode's.
    pub(super) fn put_volume(&mut self, node: NodeIndex, report: VolumeReport) -> Option<StorageIndex> {
        if let Some(at) = self.find_storage(report.id) {
            let owner = self.storage(at).node;
            if owner != node {
                if self.node(owner).live {
                    return None;
                }
                self.node_mut(owner).storages.retain(|storage| *storage != at);
                // Each datanode numbers its changes by itself.
                let taken = self.node(node).taken;
                self.storage_mut(at).recent.clear(taken);
            }
            if !self.node(node).storages.contains(&at) {
                self.node_mut(node).storages.push(at);
            }
            let storage = self.storage_mut(at);
            storage.node = node;
            storage.report = report;
            return Some(at);
        }
        if self.storages.len() >= MAX_STORAGES || self.node(node).storages.len() >= MAX_VOLUMES {
            return None;
        }
        let at = StorageIndex(self.storages.len() as u16);
        self.storages.push(Storage {
            report,
            blocks: 0,
            node,
            reported: false,
            dropped: false,
            progress: None,
            broken_off: SmallVec::new(),
            recent: Recent::default(),
        });
        self.by_storage.insert(report.id, at);
        self.node_mut(node).storages.push(at);
        Some(at)
    }

    /// Gives everybody `span` more time: the namenode itself was not running.
    pub(super) fn excuse(&mut self, span: Duration) {
        for node in &mut self.nodes {
            node.last_heartbeat = node.last_heartbeat.plus(span);
        }
    }
}
