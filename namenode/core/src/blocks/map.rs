//! The owner of all soft state, and the judgement of one block.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, GenStamp, Millis, StorageId};

use super::admin::AdminState;
use super::bad::Bad;
use super::balance::Balance;
use super::failed::Failures;
use super::kept::Kept;
use super::leaving::Leaving;
use super::moves::Moves;
use super::nodes::{Datanodes, NodeIndex, Registration, VolumeReport};
use super::places::StorageIndex;
use super::recent::ChangeLog;
use super::recover::RecoveryWork;
use super::report::ReplicaState;
use super::roster::Roster;
use super::safe_mode::{SafeCounts, SafeMode, SafeModeSettings};
use super::spread::Field;
use super::sweep::Sweep;
use super::table::Table;
use crate::locality::Pods;
use crate::placement::Topology;
use crate::record::Block;

/// A datanode that registered reports by itself; it is asked if it has not begun after this.
const REPORT_PATIENCE: Duration = Duration::from_secs(30);
/// Queues of blocks to copy.
pub(super) const QUEUES: usize = 4;
/// The queue of blocks that have enough replicas, too near to each other.
pub(super) const SPREAD: usize = QUEUES - 1;
/// The namenode was not running if it was not asked for longer than this: nobody is declared dead for that.
const LONGEST_ROUND: Duration = Duration::from_secs(10);

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct BlockSettings {
    /// Live replicas that make a block safe.
    pub min_replication: u16,
    /// The replication of those who do not name one: so many elsewhere let a datanode be decommissioned.
    pub default_replication: u16,
    /// Replicas that a block needs besides those on datanodes in maintenance.
    pub min_maintenance_replication: u16,
    /// How often datanodes are to be heard.
    pub heartbeat: Duration,
    /// Silent this long: others are preferred.
    pub stale_after: Duration,
    /// Silent this long: its replicas count as lost.
    pub dead_after: Duration,
    /// Copies that one datanode makes at a time for blocks that one more loss would lose.
    pub max_transfers_per_node: u32,
    /// Copies that one datanode makes at a time for others; at most as many.
    pub streams_per_node: u32,
    /// Copies that are made to one datanode at a time.
    pub max_incoming_per_node: u32,
    /// Small copies may be more, while all of a datanode's together are no more than so many bytes.
    pub light_copies: u64,
    /// Bytes a second that a datanode uses for each of its copies; 0 for no bound.
    pub copy_bandwidth: u64,
    /// Whether datanodes that others find slow are avoided.
    pub avoid_slow: bool,
    /// How long a copy may take before it is ordered again.
    pub transfer_timeout: Duration,
    /// How long after a block's completion the rest of its pipeline may take to report.
    pub completion_grace: Duration,
    /// After this a block's recovery is given to another primary.
    pub recovery_retry: Duration,
    /// So long a block's recovery waits for a storage that may hold bytes which were flushed and not synced.
    pub flushed_wait: Duration,
    /// When safe mode ends by itself.
    pub safe_mode: SafeModeSettings,
}

/// Sums over blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BlockCounts {
    /// Complete blocks that are known.
    pub known: u64,
    /// Blocks with fewer live replicas than wanted, but at least one.
    pub under_replicated: u64,
    /// Blocks with a bad replica.
    pub corrupt: u64,
    /// Blocks without any good replica.
    pub missing: u64,
    /// Those of them of which only one replica is wanted.
    pub missing_single: u64,
    /// Blocks that the loss of one replica would lose.
    pub endangered: u64,
    /// Blocks with enough replicas, all in one zone or rack, or several on one machine, although there are others.
    pub misplaced: u64,
    /// Blocks that wait for copies, ordered or not.
    pub pending_replication: u64,
    /// Replicas that wait to be deleted.
    pub pending_deletion: u64,
    /// Blocks under recovery.
    pub recovering: u64,
}

/// Where a block is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Located {
    /// Storages, best first; dead ones are named only if there is nothing better.
    pub storages: SmallVec<[StorageId; 3]>,
    /// Replicas are known and none is good: `storages` are the bad ones.
    pub corrupt: bool,
}

/// A replica of a block that is not complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) storage: StorageIndex,
    pub(super) stamp: GenStamp,
    pub(super) length: u64,
    pub(super) state: ReplicaState,
}

/// A block that is being written or recovered.
#[derive(Clone, Debug, Default)]
pub(super) struct Building {
    pub(super) replication: u16,
    pub(super) expected: SmallVec<[StorageId; 3]>,
    pub(super) reports: SmallVec<[Reported; 3]>,
    /// Bad replicas from when it was complete: they are still there, and nobody copies over them unread.
    pub(super) bad: SmallVec<[Bad; 1]>,
    /// Bytes that each of its replicas may come to.
    pub(super) room: u64,
}

/// Replicas that are on their way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) targets: SmallVec<[StorageIndex; 3]>,
    /// Datanodes that copy; none if the writer's pipeline is still to report.
    pub(super) sources: SmallVec<[NodeIndex; 1]>,
    pub(super) deadline: Millis,
    /// Bytes of the block.
    pub(super) bytes: u64,
    /// The block has enough replicas: this one is to lie further away.
    pub(super) spreads: bool,
}

/// Replicas, datanodes, replication work and safe mode.
#[derive(Debug)]
pub struct BlockMap {
    pub(super) settings: BlockSettings,
    pub(super) nodes: Datanodes,
    pub(super) topology: Arc<Topology>,
    /// Who runs where beside the datanodes.
    pods: Arc<Pods>,
    /// Complete blocks.
    pub(super) table: Table,
    /// Blocks that are not complete.
    pub(super) building: BTreeMap<BlockId, Building>,
    pub(super) bad: BTreeMap<BlockId, SmallVec<[Bad; 1]>>,
    /// Blocks that lack replicas, the most endangered first; the last ones have enough, but too near to each other.
    pub(super) needed: [BTreeSet<BlockId>; QUEUES],
    pub(super) cursors: [BlockId; QUEUES],
    /// Over what the datanodes are spread.
    pub(super) field: Field,
    /// Blocks with too many replicas, on several types of storage: their policy is to be told before one goes.
    pub(super) mixed: BTreeSet<BlockId>,
    pub(super) balance: Balance,
    pub(super) missing: BTreeSet<BlockId>,
    /// Those of them of which only one replica is wanted.
    missing_single: BTreeSet<BlockId>,
    /// Blocks with too many replicas, of which some are not yet reported in their datanode's present life.
    pub(super) postponed: BTreeSet<BlockId>,
    /// The last of them that was judged again.
    pub(super) postponed_cursor: BlockId,
    pub(super) pending: BTreeMap<BlockId, Pending>,
    pub(super) failures: Failures,
    pub(super) moves: Moves,
    pub(super) recoveries: BTreeMap<BlockId, RecoveryWork>,
    /// The last of them that a round looked at.
    pub(super) recovery_cursor: BlockId,
    pub(super) safe_mode: SafeMode,
    /// Complete blocks with enough live replicas to be safe.
    pub(super) safe_blocks: u64,
    /// Since when blocks are judged: not before safe mode ended for the first time.
    pub(super) active_since: Option<Millis>,
    pub(super) changes: ChangeLog,
    pub(super) sweep: Sweep,
    pub(super) roster: Roster,
    pub(super) leaving: Leaving,
    pub(super) kept: Kept,
    pub(super) blocking: Vec<BlockId>,
    /// Blocks of which a finalized replica arrived while they are not complete.
    pub(super) received: Vec<BlockId>,
    /// The storage policies of the files of blocks that are due to be copied; none where nobody looks them up.
    pub(super) policies: Option<BTreeMap<BlockId, u8>>,
    last_round: Option<Millis>,
}

impl BlockMap {
    /// Knows nothing yet and is in safe mode.
    #[must_use]
    pub fn new(settings: BlockSettings) -> Self {
        Self {
            nodes: Datanodes::default(),
            topology: Arc::default(),
            pods: Arc::default(),
            table: Table::default(),
            building: BTreeMap::new(),
            bad: BTreeMap::new(),
            needed: Default::default(),
            cursors: Default::default(),
            field: Field::default(),
            mixed: BTreeSet::new(),
            balance: Balance::default(),
            missing: BTreeSet::new(),
            missing_single: BTreeSet::new(),
            postponed: BTreeSet::new(),
            postponed_cursor: BlockId(0),
            pending: BTreeMap::new(),
            failures: Failures::default(),
            moves: Moves::default(),
            recoveries: BTreeMap::new(),
            recovery_cursor: BlockId(0),
            safe_mode: SafeMode::starting(settings.safe_mode),
            safe_blocks: 0,
            active_since: None,
            changes: ChangeLog::default(),
            sweep: Sweep::default(),
            roster: Roster::default(),
            kept: Kept::default(),
            leaving: Leaving::default(),
            blocking: Vec::new(),
            received: Vec::new(),
            policies: None,
            last_round: None,
            settings,
        }
    }

    /// The datanodes.
    #[must_use]
    pub const fn datanodes(&self) -> &Datanodes {
        &self.nodes
    }

    /// The picture that placement works with; renewed by each [`BlockMap::round`] and registration.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology)
    }

    /// Takes a datanode in. A later life of a known one replaces it; its replicas count until its report says otherwise.
    ///
    /// # Errors
    /// [`steadfs_common::FsErrorKind::NotRegistered`] for an earlier life or a copied volume;
    /// [`steadfs_common::FsErrorKind::Refused`] if the operator's list does not admit it.
    pub fn register(&mut self, registration: Registration, now: Millis) -> FsResult<()> {
        let named: Vec<StorageId> = registration.volumes.iter().map(|volume| volume.id).collect();
        let volumes = registration.volumes.clone();
        let wish = self.wish(registration.uuid, &registration.address, &registration.node)?;
        let known = self.nodes.find(registration.uuid);
        let buried = known.filter(|at| {
            let node = self.nodes.node(*at);
            !node.live && node.admin.is_leaving() && !node.admin.is_maintained()
        });
        let renewed = known.is_some_and(|at| self.nodes.node(at).session != registration.session);
        let at = self.nodes.register(registration, now, self.settings.heartbeat)?;
        let node = self.nodes.node_mut(at);
        node.report_due = Some(now.plus(REPORT_PATIENCE));
        node.orders.resend();
        let (storages, taken) = (node.storages.clone(), node.taken);
        for storage in storages {
            let entry = self.nodes.storage_mut(storage);
            (entry.reported, entry.dropped) = (false, false);
            entry.break_report_off();
            entry.recent.clear(taken);
            if !named.contains(&entry.report.id) {
                self.drop_storage(storage);
                // Taken out by its operator: it is no volume of this datanode's until it is named again.
                self.nodes.node_mut(at).storages.retain(|other| *other != storage);
            }
        }
        for volume in volumes {
            self.update_volume(at, volume, now);
        }
        if renewed {
            self.break_off_copies(at, now);
        }
        self.pass_recoveries_on(at, now);
        if let Some(at) = buried {
            // It tells itself what it has.
            self.release(at);
        }
        self.doubt_departure(at);
        self.obey(at, wish, now);
        self.refresh(now);
        Ok(())
    }

    /// Notes a volume's state; one that failed loses its replicas.
    pub(super) fn update_volume(&mut self, node: NodeIndex, report: VolumeReport, now: Millis) {
        let Some(at) = self.nodes.put_volume(node, report) else { return };
        if report.failed && !self.nodes.storage(at).dropped {
            self.drop_storage(at);
        } else if !report.failed && self.nodes.storage(at).dropped {
            let storage = self.nodes.storage_mut(at);
            (storage.dropped, storage.reported) = (false, false);
            self.nodes.node_mut(node).report_due = Some(now);
        }
    }

    /// A volume is gone: what is on it counts no more. The table is swept in steps.
    fn drop_storage(&mut self, at: StorageIndex) {
        let storage = self.nodes.storage_mut(at);
        (storage.dropped, storage.reported) = (true, false);
        storage.break_report_off();
        for building in self.building.values_mut() {
            building.reports.retain(|report| report.storage != at);
        }
        // Marks of bad replicas stay: the volume may come back with the same bytes, and its datanode would list them as good.
        let node = self.nodes.storage(at).node;
        self.nodes.node_mut(node).orders.keep_all_on(at);
        self.drop_targets(at);
        self.sweep.request();
    }

    /// Copies to a volume that is gone will not arrive.
    fn drop_targets(&mut self, at: StorageIndex) {
        let waiting: Vec<BlockId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.targets.contains(&at))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.arrived(id, at);
            self.evaluate(id);
        }
    }

    /// Declares datanodes dead that were silent for too long. If this was not called for a while, the namenode itself
    /// stood still, and everybody gets that time back.
    fn expire(&mut self, now: Millis) {
        let gap = self.last_round.map_or(Duration::ZERO, |last| now.since(last));
        self.last_round = Some(now);
        if gap > LONGEST_ROUND {
            self.nodes.excuse(gap);
        }
        for at in self.nodes.indexes() {
            let node = self.nodes.node_mut(at);
            if !node.live || now.since(node.last_heartbeat) < self.settings.dead_after {
                continue;
            }
            if node.admin.is_maintained() {
                self.lay_down(at, now);
            } else {
                self.bury(at, now);
            }
        }
    }

    /// A datanode does nothing any more; what it holds may come back.
    fn lay_down(&mut self, at: NodeIndex, now: Millis) {
        let node = self.nodes.node_mut(at);
        node.live = false;
        node.orders.clear();
        self.end_moves_of(at);
        for pending in self.pending.values_mut() {
            if pending.sources.contains(&at) {
                pending.deadline = now;
            }
        }
        self.pass_recoveries_on(at, now);
        self.sweep.request();
    }

    /// A datanode is dead, and what it holds is lost until it reports again.
    pub(super) fn bury(&mut self, at: NodeIndex, now: Millis) {
        self.lay_down(at, now);
        let storages = self.nodes.node(at).storages.clone();
        for storage in storages {
            if !self.nodes.storage(storage).dropped {
                self.drop_storage(storage);
            }
        }
    }

    pub(super) fn refresh(&mut self, now: Millis) {
        self.nodes.find_racks(&self.pods);
        self.look_around();
        let promised = self.promised();
        let topology = self.nodes.topology(now, self.settings.stale_after, &promised);
        self.topology = Arc::new(topology.among(Arc::clone(&self.pods)));
    }

    /// Bytes that are on their way to volumes which do not know of them yet.
    fn promised(&self) -> BTreeMap<StorageIndex, u64> {
        let mut promised: BTreeMap<StorageIndex, u64> = BTreeMap::new();
        for building in self.building.values().filter(|building| building.room > 0) {
            let begun = |at: StorageIndex| building.reports.iter().any(|report| report.storage == at);
            let expected = building.expected.iter().filter_map(|id| self.nodes.find_storage(*id));
            for at in expected.filter(|at| !begun(*at)) {
                let bytes = promised.entry(at).or_default();
                *bytes = bytes.saturating_add(building.room);
            }
        }
        for (id, pending) in self.pending.iter().filter(|(_, pending)| !pending.sources.is_empty()) {
            let length = self.table.get(*id).map_or(0, |entry| entry.length);
            for at in &pending.targets {
                let bytes = promised.entry(*at).or_default();
                *bytes = bytes.saturating_add(length);
            }
        }
        self.moves.promised(&mut promised);
        promised
    }

    /// Takes another picture of who runs where: readers and writers are placed by their nodes, and datanodes that name none
    /// are in the racks of theirs.
    pub fn set_pods(&mut self, pods: Arc<Pods>, now: Millis) {
        self.pods = pods;
        self.refresh(now);
    }

    /// What is due every second or so: dead datanodes, safe mode, work. `total` is the namespace's count of complete
    /// blocks. True if safe mode ended by itself just now.
    pub fn round(&mut self, total: u64, seed: u64, now: Millis) -> bool {
        self.expire(now);
        self.end_maintenance(now);
        // Only here: it looks at what everybody said of everybody.
        self.nodes.judge_slow(now, self.settings.avoid_slow);
        self.refresh(now);
        let counts = SafeCounts { total, safe: self.safe_blocks, datanodes: self.nodes.live() };
        let ended = self.safe_mode.check(counts, now);
        if ended {
            self.activate(now);
        }
        self.trim_mixed();
        self.assign_work(seed, now);
        self.assign_moves(seed, now);
        ended
    }

    /// Whether changes are refused.
    #[must_use]
    pub fn is_in_safe_mode(&self) -> bool {
        self.safe_mode.is_on()
    }

    /// Why changes are refused, if they are.
    #[must_use]
    pub fn safe_mode(&self, now: Millis) -> Option<String> {
        self.safe_mode.reason(now)
    }

    /// An operator turns safe mode on or off.
    pub fn set_safe_mode(&mut self, on: bool, now: Millis) {
        self.safe_mode.set(on);
        if !self.safe_mode.is_on() {
            self.activate(now);
        }
    }

    /// The namenode's own disk runs low, or has room again. What turned safe mode on otherwise stays.
    pub fn set_low_resources(&mut self, low: bool, now: Millis) {
        let was_on = self.safe_mode.is_on();
        self.safe_mode.set_low_resources(low);
        if was_on && !self.safe_mode.is_on() {
            self.activate(now);
        }
    }

    /// Blocks are judged from now on; those known so far by a sweep.
    fn activate(&mut self, now: Millis) {
        if self.active_since.is_none() {
            self.active_since = Some(now);
            self.sweep.request();
        }
    }

    /// How many of these replicas are on datanodes that serve, and were reported in the present life of theirs.
    pub(super) fn proven(&self, places: &[StorageIndex]) -> usize {
        self.proven_places(places).len()
    }

    pub(super) fn proven_places(&self, places: &[StorageIndex]) -> SmallVec<[StorageIndex; 4]> {
        let proven = |place: &StorageIndex| self.serves(*place) && self.nodes.storage(*place).reported;
        places.iter().copied().filter(proven).collect()
    }

    /// A good replica is there. A datanode holds one replica of a block, so one on another of its volumes is forgotten.
    pub(super) fn put_place(&mut self, id: BlockId, storage: StorageIndex) {
        let node = self.nodes.storage(storage).node;
        let Some(entry) = self.table.get_mut(id) else { return };
        let moved = entry
            .places
            .as_slice()
            .iter()
            .copied()
            .find(|place| *place != storage && self.nodes.storage(*place).node == node);
        if entry.places.insert(storage) {
            self.nodes.storage_mut(storage).blocks += 1;
        }
        if let Some(place) = moved {
            self.drop_place(id, place);
        }
    }

    /// No good replica is there.
    pub(super) fn drop_place(&mut self, id: BlockId, storage: StorageIndex) -> bool {
        let dropped = self.table.get_mut(id).is_some_and(|entry| entry.places.remove(storage));
        if dropped {
            let blocks = &mut self.nodes.storage_mut(storage).blocks;
            *blocks = blocks.saturating_sub(1);
        }
        dropped
    }

    /// Judges a block by its replicas: queues what it lacks, trims what it has too much, frees it from what no longer holds.
    pub(super) fn evaluate(&mut self, id: BlockId) {
        self.needed.iter_mut().for_each(|queue| {
            queue.remove(&id);
        });
        self.found(id);
        self.postponed.remove(&id);
        self.mixed.remove(&id);
        let Some(entry) = self.table.get(id) else {
            self.end_pending(id);
            self.leaving.forget(id, &mut self.nodes);
            return;
        };
        let replication = entry.replication;
        let tally = self.tally(entry.places.as_slice());
        let safe = tally.present >= usize::from(self.settings.min_replication);
        if let Some(entry) = self.table.get_mut(id).filter(|entry| entry.safe != safe) {
            entry.safe = safe;
            self.safe_blocks = if safe { self.safe_blocks + 1 } else { self.safe_blocks.saturating_sub(1) };
        }
        if self.active_since.is_none() {
            return;
        }
        let (wanted, live) = (self.enough(replication, tally), tally.serving);
        // A copy that lies further away is wanted although there are enough.
        let misplaced = live >= wanted && self.is_misplaced(id);
        if live >= wanted && !misplaced {
            self.end_pending(id);
        }
        let coming = self.pending.get(&id).map_or(0, |pending| pending.targets.len());
        let somewhere = tally.present + tally.maintained > 0;
        if !somewhere && coming == 0 {
            self.missing.insert(id);
            if replication == 1 {
                self.missing_single.insert(id);
            }
        } else if somewhere && live + coming < wanted {
            self.needed[priority(live, wanted)].insert(id);
        } else if live > usize::from(replication) {
            self.trim(id, usize::from(replication));
        } else if misplaced && coming == 0 {
            self.needed[SPREAD].insert(id);
        }
        if self.bad.contains_key(&id) {
            self.drop_bad(id);
        }
        self.judge_leaving(id);
    }

    /// It is not missing (any more).
    fn found(&mut self, id: BlockId) {
        if self.missing.remove(&id) {
            self.missing_single.remove(&id);
        }
    }

    /// A replica that was on its way is there, or will not come.
    pub(super) fn arrived(&mut self, id: BlockId, storage: StorageIndex) {
        self.end_move_to(id, storage);
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let before = pending.targets.len();
        pending.targets.retain(|target| *target != storage);
        let (came, empty) = (pending.targets.len() < before, pending.targets.is_empty());
        let copied = !pending.sources.is_empty();
        let bytes = pending.bytes;
        if came && copied {
            self.less_incoming(storage, bytes);
            self.failures.forget(id);
        }
        if empty {
            self.end_pending(id);
        }
    }

    /// Nothing is on its way any more; those who copied have a hand free.
    pub(super) fn end_pending(&mut self, id: BlockId) {
        let Some(pending) = self.pending.remove(&id) else { return };
        if !pending.sources.is_empty() {
            pending.targets.iter().for_each(|target| self.less_incoming(*target, pending.bytes));
        }
        for source in pending.sources {
            self.nodes.node_mut(source).orders.outgoing.end(pending.bytes);
        }
    }

    pub(super) fn less_incoming(&mut self, target: StorageIndex, bytes: u64) {
        let node = self.nodes.storage(target).node;
        self.nodes.node_mut(node).orders.incoming.end(bytes);
    }

    /// Forgets a complete block.
    pub(super) fn take_entry(&mut self, id: BlockId) -> Option<super::table::Entry> {
        let entry = self.table.remove(id)?;
        if entry.safe {
            self.safe_blocks = self.safe_blocks.saturating_sub(1);
        }
        for place in entry.places.as_slice() {
            let blocks = &mut self.nodes.storage_mut(*place).blocks;
            *blocks = blocks.saturating_sub(1);
        }
        self.needed.iter_mut().for_each(|queue| {
            queue.remove(&id);
        });
        self.found(id);
        self.postponed.remove(&id);
        self.mixed.remove(&id);
        self.end_pending(id);
        self.failures.forget(id);
        self.end_move(id);
        self.leaving.forget(id, &mut self.nodes);
        Some(entry)
    }

    fn ids(&self, places: impl IntoIterator<Item = StorageIndex>) -> SmallVec<[StorageId; 3]> {
        places.into_iter().map(|place| self.nodes.storage(place).report.id).collect()
    }

    /// Where finalized replicas with this stamp are known to be, on live datanodes.
    #[must_use]
    pub fn live(&self, block: BlockId, stamp: GenStamp) -> SmallVec<[StorageId; 3]> {
        if let Some(entry) = self.table.get(block) {
            let same = entry.stamp == stamp;
            let places = entry.places.as_slice().iter().copied();
            return self.ids(places.filter(|place| same && self.nodes.counts(*place)));
        }
        let reports = self.building.get(&block).into_iter().flat_map(|building| &building.reports);
        self.ids(
            reports
                .filter(|report| report.state == ReplicaState::Finalized && report.stamp == stamp)
                .map(|report| report.storage)
                .filter(|place| self.nodes.counts(*place)),
        )
    }

    /// Where a block can be read, best for `reader` first. Of a block that is not complete: its pipeline.
    #[must_use]
    pub fn locate(&self, block: &Block, reader: Option<IpAddr>, seed: u64) -> Located {
        let mut located = Located::default();
        if block.is_complete() {
            located.storages = self.live(block.id, block.stamp);
            // One in maintenance may be down any moment.
            let up = |id: &StorageId| {
                self.nodes
                    .find_storage(*id)
                    .is_some_and(|at| self.nodes.owner(at).admin != AdminState::InMaintenance)
            };
            if located.storages.iter().any(up) {
                located.storages.retain(|id| up(id));
            }
            if located.storages.is_empty()
                && let Some(marks) = self.bad.get(&block.id)
            {
                located.storages = self.ids(marks.iter().map(|mark| mark.storage));
                located.corrupt = true;
            }
        } else {
            let known =
                |id: &&StorageId| self.nodes.find_storage(**id).is_some_and(|at| self.nodes.counts(at));
            located.storages = block.expected().iter().filter(known).copied().collect();
            let reports = self.building.get(&block.id).into_iter().flat_map(|building| &building.reports);
            if located.storages.is_empty() {
                located.storages = self.ids(reports.map(|report| report.storage));
            }
        }
        self.topology.order(reader, &mut located.storages, seed ^ block.id.0);
        located
    }

    /// The good and the bad replicas of a block, for a check of the file system.
    #[must_use]
    pub fn replicas(&self, block: BlockId) -> (SmallVec<[StorageId; 3]>, SmallVec<[StorageId; 3]>) {
        let good = self.table.get(block).into_iter().flat_map(|entry| entry.places.as_slice()).copied();
        let bad = self.bad.get(&block).into_iter().flat_map(|marks| self.bad_places(marks));
        (self.ids(good.filter(|place| self.nodes.counts(*place))), self.ids(bad))
    }

    /// The first blocks past `after` without any good replica.
    #[must_use]
    pub fn missing(&self, after: BlockId, limit: usize) -> Vec<BlockId> {
        self.missing.range(after.next()..).take(limit).copied().collect()
    }

    /// Sums over blocks.
    #[must_use]
    pub fn counts(&self) -> BlockCounts {
        let waiting: usize = self.needed[..SPREAD].iter().map(BTreeSet::len).sum();
        let copied = self.pending.iter().filter(|(id, pending)| {
            !pending.sources.is_empty() && !self.needed.iter().any(|queue| queue.contains(id))
        });
        let (spread, lack): (Vec<bool>, Vec<bool>) =
            copied.map(|(_, pending)| pending.spreads).partition(|spreads| *spreads);
        let lacking = (waiting + lack.len()) as u64;
        BlockCounts {
            known: self.table.len(),
            under_replicated: lacking,
            corrupt: self.bad.values().filter(|marks| self.bad_places(marks).next().is_some()).count() as u64,
            missing: self.missing.len() as u64,
            missing_single: self.missing_single.len() as u64,
            endangered: self.needed[0].len() as u64,
            misplaced: (self.needed[SPREAD].len() + spread.len()) as u64,
            pending_replication: lacking,
            pending_deletion: self
                .nodes
                .indexes()
                .map(|at| self.nodes.node(at).orders.invalid_len() as u64)
                .sum(),
            recovering: self.recoveries.len() as u64,
        }
    }

    /// The session's datanode, which must be registered and alive.
    ///
    /// # Errors
    /// [`steadfs_common::FsErrorKind::NotRegistered`].
    pub(super) fn reporter(&self, uuid: DatanodeUuid, session: u64) -> FsResult<NodeIndex> {
        self.nodes.session(uuid, session)?.ok_or_else(|| {
            steadfs_common::FsError::new(
                steadfs_common::FsErrorKind::NotRegistered,
                format!("datanode {uuid} is not registered: it must register again"),
            )
        })
    }

    /// Blocks of which a finalized replica arrived since the last call.
    pub fn take_received(&mut self) -> Vec<BlockId> {
        std::mem::take(&mut self.received)
    }
}

/// The queue of a block: 0 if one more loss may be the last, 1 if it has less than a third, else 2.
const fn priority(live: usize, wanted: usize) -> usize {
    if live <= 1 {
        0
    } else if live * 3 < wanted {
        1
    } else {
        2
    }
}
