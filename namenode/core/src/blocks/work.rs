//! What datanodes are told to do.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsResult, GenStamp, Millis, StorageId};

use super::admin::{AdminState, Standing};
use super::bad::Checks;
use super::load::Load;
use super::map::{BlockMap, Pending, SPREAD};
use super::nodes::{Heartbeat, NodeIndex};
use super::places::StorageIndex;
use super::unheard::Unheard;
use crate::command::BlockRef;
use crate::placement::{PlacementRequest, Random};

/// Replicas that one answer to a heartbeat orders to be deleted (HDFS: `dfs.block.invalidate.limit`).
pub(super) const INVALIDATE_PER_HEARTBEAT: usize = 1_000;
/// Replicas of one datanode that wait to be deleted. What does not fit is found again by a full report, which is asked for when
/// half of them are gone.
const MAX_INVALID: usize = 1_000_000;
/// An order to delete that was not followed by then never will be: its datanode drops those that waited too long.
const INVALID_EXPIRY: Duration = Duration::from_secs(600);
/// So often it is looked at again, and given or taken back; then the next full report shows whether the replica is there.
const INVALID_REPEATS: u8 = 5;
/// Blocks looked at in one round of ordering replicas, whether or not anything can be done for them.
pub(super) const BLOCKS_PER_ROUND: usize = 2_000;
/// A datanode that was asked for a report is asked again after this.
pub(super) const REPORT_RETRY: Duration = Duration::from_secs(60);
/// A copy that is slower than so many bytes a second has failed.
const SLOWEST_COPY: u64 = 5 << 20;
/// After safe mode, replication waits this long for datanodes that are alive but have not reported yet.
const REPORT_PATIENCE: Duration = Duration::from_secs(60);

/// What the namenode wants a datanode to do. Each may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// Register: this namenode does not know you.
    Register,
    /// Report all your replicas.
    Report,
    /// Copy a replica to these storages, in a pipeline.
    Transfer {
        /// Which.
        block: BlockRef,
        /// Where to.
        targets: SmallVec<[StorageId; 3]>,
        /// At most so many bytes a second; 0 for no bound.
        bytes_per_second: u64,
        /// For the sake of balance: nothing lacks, others go first.
        for_balance: bool,
    },
    /// Delete these replicas, if they have these stamps or older ones.
    Invalidate(Vec<BlockRef>),
    /// Read these replicas and say whether they are bad: a reader said so, or others are to be deleted for them.
    Check(Vec<BlockRef>),
    /// Move replicas for the sake of balance with at most so many bytes a second.
    Bandwidth(u64),
    /// Be the primary of a block's recovery.
    Recover {
        /// The block as the namespace has it.
        block: BlockRef,
        /// The stamp it will have.
        stamp: GenStamp,
        /// The length that a truncate asks for.
        truncate_to: Option<u64>,
        /// Where it has replicas, on live datanodes.
        storages: SmallVec<[StorageId; 3]>,
        /// Storages that may hold one too and cannot be asked now.
        left_out: u32,
        /// So many bytes must be left. What the block has more was flushed.
        synced: u64,
        /// Those left out were waited for long enough: what was flushed and not synced may be gone.
        waited: bool,
        /// More may be synced, unless all of `storages` say that they do not have it.
        unsure: bool,
    },
}

/// Why a replica is to be deleted: decides what is looked at again before the order goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The namespace has no such block.
    Gone,
    /// There are more than wanted.
    Excess,
    /// It is bad.
    Corrupt,
}

/// A replica to be deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Invalid {
    pub(super) stamp: GenStamp,
    pub(super) length: u64,
    pub(super) storage: StorageIndex,
    pub(super) why: Why,
    /// When the order went out last.
    sent: Option<Millis>,
    /// How often it was not followed.
    repeats: u8,
}

impl Invalid {
    /// One of which nobody was told yet.
    pub(super) const fn new(stamp: GenStamp, length: u64, storage: StorageIndex, why: Why) -> Self {
        Self { stamp, length, storage, why, sent: None, repeats: 0 }
    }
}

/// A copy that a datanode is to make.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) block: BlockRef,
    pub(super) targets: SmallVec<[StorageIndex; 3]>,
    pub(super) bytes_per_second: u64,
    pub(super) for_balance: bool,
}

/// What one datanode is to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    invalid: BTreeMap<BlockId, Invalid>,
    /// Blocks of `invalid` not yet ordered; may name some that are gone from it.
    unsent: VecDeque<BlockId>,
    sent: VecDeque<(Millis, BlockId)>,
    unheard: Unheard,
    pub(super) transfers: VecDeque<Copy>,
    pub(super) recovers: VecDeque<BlockId>,
    /// Replicas that it is to look at.
    pub(super) checks: Checks,
    /// Copies it was told to make, or will be, that have not ended.
    pub(super) outgoing: Load,
    /// Copies to it that have not ended.
    pub(super) incoming: Load,
    /// Moves from or to it, for the sake of balance, that have not ended.
    pub(super) moving: u32,
    /// It has replicas that could not be judged in safe mode.
    pub(super) report_again: bool,
    /// It has replicas to delete that found no room here.
    overflowed: bool,
    /// Bytes a second for moving replicas, if it is to be told.
    bandwidth: Option<u64>,
}

impl Orders {
    pub(super) fn invalid(&self, block: BlockId) -> Option<&Invalid> {
        self.invalid.get(&block)
    }

    /// Blocks of the range whose replica on `storage` is to be deleted.
    pub(super) fn invalid_on(
        &self,
        storage: StorageIndex,
        range: RangeInclusive<BlockId>,
    ) -> impl Iterator<Item = BlockId> {
        self.invalid.range(range).filter(move |(_, invalid)| invalid.storage == storage).map(|(id, _)| *id)
    }

    pub(super) fn invalid_len(&self) -> usize {
        self.invalid.len()
    }

    /// Notes a replica to delete; a full list forgets it.
    pub(super) fn invalidate(&mut self, block: BlockId, invalid: Invalid) {
        if self.invalid.len() >= MAX_INVALID {
            self.overflowed = true;
            return;
        }
        if self.invalid.insert(block, invalid).is_none_or(|old| old.sent.is_some()) {
            self.unsent.push_back(block);
        }
    }

    pub(super) fn keep(&mut self, block: BlockId) -> Option<Invalid> {
        self.invalid.remove(&block)
    }

    /// A volume is gone: nothing can be deleted there. What is still to be is found again by its next report.
    pub(super) fn keep_all_on(&mut self, storage: StorageIndex) {
        self.invalid.retain(|_, invalid| invalid.storage != storage);
    }

    /// The datanode died: it will report what it has. What is counted as under way ends with the copies and moves that
    /// name it.
    pub(super) fn clear(&mut self) {
        let (outgoing, incoming, moving) = (self.outgoing, self.incoming, self.moving);
        // Marks of bad replicas outlive it, and so what is to be found out about them.
        let checks = std::mem::take(&mut self.checks);
        *self = Self { outgoing, incoming, moving, checks, ..Self::default() };
    }

    /// The datanode begins a new life: what it was told before may be forgotten there.
    pub(super) fn resend(&mut self) {
        self.sent.clear();
        self.unheard = Unheard::default();
        self.unsent = self.invalid.keys().copied().collect();
        self.invalid.values_mut().for_each(|invalid| invalid.sent = None);
        self.recovers.clear();
    }

    /// Takes the numbers of a heartbeat. Orders to delete that went with an answer which was lost are looked at again, before
    /// all others: their datanode neither obeyed them nor will. False as for [`Unheard::take`].
    fn hear(&mut self, number: u64, answered: u64) -> bool {
        let waited_for = self.unheard.take(number, answered);
        while let Some(block) = self.unheard.next() {
            if let Some(invalid) = self.invalid.get_mut(&block).filter(|invalid| invalid.sent.is_some()) {
                invalid.sent = None;
                self.unsent.push_front(block);
            }
        }
        waited_for
    }

    /// An order to delete goes out now.
    fn goes_out(&mut self, block: BlockId, now: Millis) {
        self.sent.push_back((now, block));
        self.unheard.sent(block);
        self.invalid.entry(block).and_modify(|invalid| invalid.sent = Some(now));
    }

    /// Orders to delete that were not followed in time are looked at again. Gives those that were given up.
    fn expire(&mut self, now: Millis) -> Vec<BlockId> {
        let mut given_up = Vec::new();
        while let Some((at, block)) = self.sent.front().copied()
            && now.since(at) >= INVALID_EXPIRY
        {
            self.sent.pop_front();
            // One that went out again has its time anew.
            let Some(invalid) = self.invalid.get_mut(&block).filter(|invalid| invalid.sent == Some(at))
            else {
                continue;
            };
            if invalid.repeats >= INVALID_REPEATS {
                self.invalid.remove(&block);
                given_up.push(block);
            } else {
                (invalid.sent, invalid.repeats) = (None, invalid.repeats + 1);
                self.unsent.push_back(block);
            }
        }
        given_up
    }

    /// Whether what found no room among the orders to delete is to be asked for now.
    fn takes_more(&mut self) -> bool {
        let room = self.invalid.len() <= MAX_INVALID / 2;
        room && std::mem::take(&mut self.overflowed)
    }
}

impl BlockMap {
    /// Takes a heartbeat and gives the datanode's work. A datanode that is not known (any more) is told to register.
    ///
    /// # Errors
    /// [`steadfs_common::FsErrorKind::NotRegistered`] for an earlier life of a datanode.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat, now: Millis) -> FsResult<Vec<NodeCommand>> {
        let Some(at) = self.nodes.session(heartbeat.uuid, heartbeat.session)? else {
            return Ok(vec![NodeCommand::Register]);
        };
        let node = self.nodes.node_mut(at);
        if heartbeat.ending || node.ended {
            self.ends(at, now);
            return Ok(Vec::new());
        }
        node.last_heartbeat = now;
        node.address = heartbeat.address;
        node.active_transfers = heartbeat.active_transfers;
        let waited_for = node.orders.hear(heartbeat.number, heartbeat.answered);
        self.repeat_copies(at);
        self.nodes.note_peers(at, &heartbeat.peers, now);
        for volume in heartbeat.volumes.into_iter().take(super::nodes::MAX_VOLUMES) {
            self.update_volume(at, volume, now);
        }
        if waited_for { Ok(self.commands(at, now)) } else { Ok(Vec::new()) }
    }

    /// A life of a datanode ends: what it was copying is given to others.
    fn ends(&mut self, at: NodeIndex, now: Millis) {
        let node = self.nodes.node_mut(at);
        if std::mem::replace(&mut node.ended, true) {
            return;
        }
        node.last_heartbeat = now;
        for pending in self.pending.values_mut().filter(|pending| pending.sources.contains(&at)) {
            pending.deadline = now;
        }
    }

    fn commands(&mut self, at: NodeIndex, now: Millis) -> Vec<NodeCommand> {
        let mut commands = Vec::new();
        let node = self.nodes.node_mut(at);
        let unheard = node.orders.unheard.next_bandwidth();
        if let Some(bytes) = node.orders.bandwidth.take().or(unheard) {
            node.orders.unheard.sent_bandwidth(bytes);
            commands.push(NodeCommand::Bandwidth(bytes));
        }
        if !self.safe_mode.is_on() && node.orders.takes_more() {
            node.report_due = Some(now);
        }
        // What waits for the end of safe mode is not asked for before.
        let early = node.orders.report_again && self.safe_mode.is_on();
        if node.report_due.is_some_and(|due| due <= now) && !early {
            node.report_due = Some(now.plus(REPORT_RETRY));
            node.orders.report_again = false;
            commands.push(NodeCommand::Report);
        }
        if self.safe_mode.is_on() {
            return commands;
        }
        self.give_recovers(at, &mut commands, now);
        self.give_transfers(at, &mut commands);
        let blocks = self.take_invalid(at, now);
        if !blocks.is_empty() {
            commands.push(NodeCommand::Invalidate(blocks));
        }
        let blocks = self.take_checks(at, now);
        if !blocks.is_empty() {
            commands.push(NodeCommand::Check(blocks));
        }
        commands
    }

    /// Tells all live datanodes how many bytes a second they may use to move replicas.
    pub fn set_bandwidth(&mut self, bytes_per_second: u64) {
        for at in self.nodes.indexes() {
            let node = self.nodes.node_mut(at);
            if node.live {
                node.orders.bandwidth = Some(bytes_per_second);
            }
        }
    }

    /// The next replicas to delete. Each is looked at again: what was too many when it was noted may be needed by now.
    fn take_invalid(&mut self, at: NodeIndex, now: Millis) -> Vec<BlockRef> {
        let mut blocks = Vec::new();
        // One look at each: what is taken back may be noted again behind the others.
        for _ in 0..self.nodes.node(at).orders.unsent.len() {
            if blocks.len() >= INVALIDATE_PER_HEARTBEAT {
                break;
            }
            let Some(id) = self.nodes.node_mut(at).orders.unsent.pop_front() else { break };
            let Some(invalid) =
                self.nodes.node(at).orders.invalid(id).copied().filter(|invalid| invalid.sent.is_none())
            else {
                continue;
            };
            if self.still_deletable(id, &invalid) {
                self.nodes.node_mut(at).orders.goes_out(id, now);
                blocks.push(BlockRef { id, stamp: invalid.stamp, length: invalid.length });
            } else {
                self.nodes.node_mut(at).orders.keep(id);
                match invalid.why {
                    Why::Excess => self.restore(id, &invalid),
                    Why::Corrupt => self.doubt_order(id, invalid.storage),
                    Why::Gone => {}
                }
                self.evaluate(id);
            }
        }
        blocks
    }

    fn still_deletable(&self, id: BlockId, invalid: &Invalid) -> bool {
        match invalid.why {
            Why::Gone => true,
            Why::Corrupt => self.bad_is_deletable(id, invalid.storage),
            Why::Excess => self.table.get(id).is_none_or(|entry| {
                entry.stamp == invalid.stamp
                    && self.proven(entry.places.as_slice()) >= usize::from(entry.replication.max(1))
            }),
        }
    }

    /// A replica that was too many counts again.
    fn restore(&mut self, id: BlockId, invalid: &Invalid) {
        let same =
            |entry: &super::table::Entry| entry.stamp == invalid.stamp && entry.length == invalid.length;
        if self.table.get(id).is_some_and(same) {
            self.put_place(id, invalid.storage);
        }
    }

    /// Orders to copy that went with an answer which was lost go again, with the next that takes any along.
    fn repeat_copies(&mut self, at: NodeIndex) {
        while let Some(copy) = self.nodes.node_mut(at).orders.unheard.next_copy() {
            if self.is_awaited(at, &copy) {
                self.nodes.node_mut(at).orders.transfers.push_back(copy);
            }
        }
    }

    fn give_transfers(&mut self, at: NodeIndex, commands: &mut Vec<NodeCommand>) {
        while let Some(copy) = self.nodes.node_mut(at).orders.transfers.pop_front() {
            let Copy { block, targets, bytes_per_second, for_balance } = copy.clone();
            let held = self.table.get(block.id).is_some_and(|entry| {
                entry.stamp == block.stamp
                    && entry.places.as_slice().iter().any(|place| self.nodes.storage(*place).node == at)
            });
            if held {
                let targets = targets.iter().map(|target| self.nodes.storage(*target).report.id).collect();
                commands.push(NodeCommand::Transfer { block, targets, bytes_per_second, for_balance });
                self.nodes.node_mut(at).orders.unheard.sent_copy(copy);
            } else if for_balance {
                self.end_move(block.id);
            } else {
                self.end_pending(block.id);
                self.evaluate(block.id);
            }
        }
    }

    /// Whether a copy that was ordered from a datanode has come to no end yet.
    fn is_awaited(&self, at: NodeIndex, copy: &Copy) -> bool {
        if copy.for_balance {
            let going = self.moves.active.get(&copy.block.id);
            return going.is_some_and(|going| {
                self.nodes.storage(going.from).node == at && copy.targets.contains(&going.to)
            });
        }
        self.pending.get(&copy.block.id).is_some_and(|pending| {
            pending.sources.contains(&at) && copy.targets.iter().any(|to| pending.targets.contains(to))
        })
    }

    /// One round of what is due: pending copies that did not come, recoveries, and new copies for blocks that lack
    /// replicas, the most endangered first.
    pub(super) fn assign_work(&mut self, seed: u64, now: Millis) {
        for at in self.nodes.indexes() {
            for id in self.nodes.node_mut(at).orders.expire(now) {
                self.evaluate(id);
            }
        }
        self.failures.expire(now);
        let late: Vec<BlockId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline <= now)
            .map(|(id, _)| *id)
            .take(BLOCKS_PER_ROUND)
            .collect();
        for id in late {
            self.end_pending(id);
            self.evaluate(id);
        }
        if self.safe_mode.is_on() {
            return;
        }
        self.assign_recoveries(now);
        let waited = self.active_since.is_some_and(|since| now.since(since) >= REPORT_PATIENCE);
        if waited || self.nodes.all_reported() {
            self.assign_copies(seed, now);
        }
    }

    /// The blocks that the next round of copies and deletions looks at: their storage policies are to be told it by
    /// [`BlockMap::set_policies`].
    #[must_use]
    pub fn copies_due(&self) -> Vec<BlockId> {
        let mut due = Vec::new();
        for (queue, after) in self.needed.iter().zip(self.cursors) {
            let round = queue.range(after.next()..).chain(queue.range(..=after)).copied();
            due.extend(round.take(BLOCKS_PER_ROUND - due.len()));
        }
        due.extend(self.mixed.iter().take(super::excess::MIXED_PER_ROUND));
        due
    }

    /// By which policy a block is to be placed, if that is known by now.
    pub(super) fn policy_of(&self, id: BlockId) -> Option<u8> {
        match &self.policies {
            None => Some(0),
            Some(policies) => policies.get(&id).copied(),
        }
    }

    /// Says by which storage policies these blocks are to be copied. A block that is not among them waits for the next
    /// round. If this is never called, all are copied as if they had none.
    pub fn set_policies(&mut self, policies: BTreeMap<BlockId, u8>) {
        self.policies = Some(policies);
    }

    fn assign_copies(&mut self, seed: u64, now: Millis) {
        let mut random = Random::new(seed);
        let mut looked = 0;
        for priority in 0..self.needed.len() {
            let after = self.cursors[priority];
            let later = self.needed[priority].range(after.next()..);
            let earlier = self.needed[priority].range(..=after);
            let round: Vec<BlockId> = later.chain(earlier).copied().take(BLOCKS_PER_ROUND - looked).collect();
            looked += round.len();
            for id in round {
                self.cursors[priority] = id;
                self.copy(id, priority, &mut random, now);
            }
        }
    }

    /// Orders the copies that a block lacks, if a source has a hand free and there is somewhere to put them.
    fn copy(&mut self, id: BlockId, priority: usize, random: &mut Random, now: Millis) {
        let Some(policy) = self.policy_of(id) else { return };
        let Some(entry) = self.table.get(id) else { return };
        if self.failures.rests(id, now) {
            return;
        }
        let (block, replication) =
            (BlockRef { id, stamp: entry.stamp, length: entry.length }, entry.replication);
        let places: SmallVec<[StorageIndex; 8]> = entry
            .places
            .as_slice()
            .iter()
            .copied()
            .filter(|place| self.standing(*place) != Standing::Gone)
            .collect();
        let pending = self.pending.get(&id);
        let targets = pending.map(|pending| pending.targets.clone()).unwrap_or_default();
        let tally = self.tally(&places);
        let spreads = priority == SPREAD;
        let wanted = match spreads {
            true => usize::from(targets.is_empty()),
            false => self.enough(replication, tally).saturating_sub(tally.serving + targets.len()),
        };
        let mut sources = self.free_sources(&places, block.length, priority);
        let failed = self.failures.nodes(id);
        let other = |place: &StorageIndex| !failed.contains(&self.nodes.storage(*place).node);
        if sources.iter().any(other) {
            sources.retain(|place| other(place));
        }
        if wanted == 0 || sources.is_empty() {
            return;
        }
        let storage_id = |place: &StorageIndex| self.nodes.storage(*place).report.id;
        let existing: Vec<StorageId> = places.iter().chain(&targets).map(storage_id).collect();
        let choose = |excluded: &[DatanodeUuid], seed: u64| {
            self.topology.choose(&PlacementRequest {
                wanted,
                least: usize::from(self.settings.min_replication),
                writer: None,
                existing: &existing,
                excluded,
                favored: &[],
                avoid_local: false,
                block_size: block.length.max(1),
                policy,
                seed,
            })
        };
        let unfit = self.unfit_for(id, block.length);
        let doubtful = failed.iter().map(|at| self.nodes.node(*at).uuid);
        let mut chosen = choose(&unfit.iter().copied().chain(doubtful).collect::<Vec<_>>(), random.draw());
        if chosen.is_empty() && !failed.is_empty() {
            chosen = choose(&unfit, random.draw());
        }
        // A datanode that is still to delete a replica of the block would delete the new one.
        let clear = |target: &StorageIndex| {
            self.nodes.node(self.nodes.storage(*target).node).orders.invalid(id).is_none()
                && (!spreads || self.spreads(&places, *target))
        };
        let chosen: SmallVec<[StorageIndex; 3]> =
            chosen.iter().filter_map(|target| self.nodes.find_storage(*target)).filter(clear).collect();
        if chosen.is_empty() {
            return;
        }
        let source = self.nodes.storage(sources[random.below(sources.len() as u64) as usize]).node;
        self.order_copy(block, source, chosen, spreads, now);
    }

    /// Replicas that can be copied from: the datanode lives and has a hand free. Those that nothing is known against come
    /// before those of slow datanodes.
    fn free_sources(
        &self,
        places: &[StorageIndex],
        bytes: u64,
        priority: usize,
    ) -> SmallVec<[StorageIndex; 8]> {
        let settings = &self.settings;
        let most = match priority {
            0 => settings.max_transfers_per_node,
            _ => settings.streams_per_node.min(settings.max_transfers_per_node),
        };
        let node = |place: &StorageIndex| self.nodes.node(self.nodes.storage(*place).node);
        let free = |place: &&StorageIndex| {
            let node = node(place);
            let room = node.orders.outgoing.has_room(bytes, most, settings.light_copies);
            room && node.live && !node.ended && node.admin != AdminState::InMaintenance
        };
        let mut sources: SmallVec<[StorageIndex; 8]> = places.iter().filter(free).copied().collect();
        if sources.iter().any(|place| !node(place).slow) {
            sources.retain(|place| !node(place).slow);
        }
        sources
    }

    fn order_copy(
        &mut self,
        block: BlockRef,
        source: NodeIndex,
        targets: SmallVec<[StorageIndex; 3]>,
        spreads: bool,
        now: Millis,
    ) {
        let bytes_per_second = self.settings.copy_bandwidth;
        for target in &targets {
            let node = self.nodes.storage(*target).node;
            self.nodes.node_mut(node).orders.incoming.begin(block.length);
        }
        let orders = &mut self.nodes.node_mut(source).orders;
        orders.outgoing.begin(block.length);
        let copy = Copy { block, targets: targets.clone(), bytes_per_second, for_balance: false };
        orders.transfers.push_back(copy);
        let deadline = now.plus(self.patience(block.length, targets.len(), bytes_per_second));
        let pending = self.pending.entry(block.id).or_insert_with(|| Pending {
            targets: SmallVec::new(),
            sources: SmallVec::new(),
            deadline,
            bytes: block.length,
            spreads,
        });
        // Of a pipeline that was to report nothing counted as a copy until now.
        let waited_for = if pending.sources.is_empty() { pending.targets.clone() } else { SmallVec::new() };
        pending.targets.extend(targets);
        pending.sources.push(source);
        pending.deadline = deadline;
        for target in waited_for {
            let node = self.nodes.storage(target).node;
            self.nodes.node_mut(node).orders.incoming.begin(block.length);
        }
        self.evaluate(block.id);
    }

    /// A datanode begins a new life: what it sent or was sent in the one before broke off, and is ordered again. Copies that
    /// nobody was told of yet are still to come.
    pub(super) fn break_off_copies(&mut self, at: NodeIndex, now: Millis) {
        let nodes = &self.nodes;
        let told = |id: BlockId, source: &NodeIndex| {
            !nodes.node(*source).orders.transfers.iter().any(|copy| copy.block.id == id)
        };
        for (id, pending) in &mut self.pending {
            let here = pending.targets.iter().any(|target| nodes.storage(*target).node == at);
            let mut sources = pending.sources.iter();
            if sources.any(|source| (here || *source == at) && told(*id, source)) {
                pending.deadline = now;
            }
        }
    }

    /// How long copies may take: blocks of several GiB want their time.
    pub(super) fn patience(&self, length: u64, copies: usize, bytes_per_second: u64) -> Duration {
        let speed = match bytes_per_second {
            0 => SLOWEST_COPY,
            bound => bound.min(SLOWEST_COPY),
        };
        let bytes = length.saturating_mul(copies.max(1) as u64);
        self.settings.transfer_timeout.saturating_add(Duration::from_secs(bytes / speed))
    }

    /// Datanodes that must not get a copy: they have a bad replica, or get as many copies as they may. A bad one on a volume
    /// that failed is in nobody's way: its datanode has other volumes.
    fn unfit_for(&self, id: BlockId, bytes: u64) -> Vec<DatanodeUuid> {
        let marks = self.bad.get(&id).into_iter().flatten();
        let marks = marks.filter(|bad| !self.nodes.storage(bad.storage).dropped);
        let spoilt = marks.map(|bad| self.nodes.storage(bad.storage).node);
        let (most, light) = (self.settings.max_incoming_per_node, self.settings.light_copies);
        let incoming = |at: NodeIndex| self.nodes.node(at).orders.incoming;
        let busy = self.nodes.indexes().filter(|at| !incoming(*at).has_room(bytes, most, light));
        spoilt.chain(busy).map(|at| self.nodes.node(at).uuid).collect()
    }
}

#[cfg(test)]
impl Orders {
    /// How many orders there are.
    pub(super) fn remembered(&self) -> usize {
        self.invalid.len()
            + self.unsent.len()
            + self.sent.len()
            + self.transfers.len()
            + self.recovers.len()
            + self.unheard.len()
            + self.checks.len()
            + (self.outgoing.copies + self.incoming.copies + self.moving) as usize
    }
}

#[cfg(test)]
impl BlockMap {
    /// What is counted at each datanode as under way is what is under way.
    pub(super) fn check_streams(&self) {
        for at in self.nodes.indexes() {
            let here = |place: &StorageIndex| self.nodes.storage(*place).node == at;
            let moves = self.moves.active.values();
            let moving: usize =
                moves.map(|going| usize::from(here(&going.from)) + usize::from(here(&going.to))).sum();
            let copied = || self.pending.values().filter(|pending| !pending.sources.is_empty());
            let outgoing: usize =
                copied().map(|pending| pending.sources.iter().filter(|source| **source == at).count()).sum();
            let incoming: usize =
                copied().map(|pending| pending.targets.iter().filter(|place| here(place)).count()).sum();
            let orders = &self.nodes.node(at).orders;
            assert_eq!(orders.moving as usize, moving, "moves of {at:?}");
            assert_eq!(orders.outgoing.copies as usize, outgoing, "copies from {at:?}");
            assert_eq!(orders.incoming.copies as usize, incoming, "copies to {at:?}");
        }
    }
}
