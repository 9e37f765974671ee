//! Balance between datanodes: replicas go from those that are fuller than most to those that are emptier.
//!
//! Each type of storage is balanced by itself. A datanode is out of balance if the share of its space that replicas take
//! differs by more than the threshold from that of all together. A move never lowers safety: the copy comes first, only
//! blocks with all their replicas are moved, never into fewer zones or racks or onto fewer machines, and while blocks are endangered
//! nothing is moved.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use steadfs_common::{BlockId, Millis, StorageType};

use super::admin::Standing;
use super::map::BlockMap;
use super::moves::Move;
use super::nodes::NodeIndex;
use super::places::StorageIndex;
use super::table::Entry;
use super::work::Copy;
use crate::command::BlockRef;
use crate::placement::Random;

/// Moves from and to one datanode at a time.
const MOVES_PER_NODE: u32 = 8;
/// Moves that one round orders.
const MOVES_PER_ROUND: usize = 500;
/// Blocks that one round looks at for one datanode, and for all.
const LOOKED_AT: usize = 5_000;
const LOOKED_AT_IN_ALL: usize = 50_000;
/// After so many rounds without a move ordered or under way there is nothing to do.
const IDLE_ROUNDS: u32 = 10;

/// How far replicas are to be balanced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BalanceGoal {
    /// How far a datanode's use may differ from that of all, in percent of its space; above 0.
    pub threshold: f64,
    /// Bytes a second that each datanode may move; 0 for what its balancer bandwidth allows.
    pub bytes_per_second: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BalanceStatus {
    /// What is aimed at; none if nobody asked for balance.
    pub goal: Option<BalanceGoal>,
    /// An operator asked for it, and not the configuration.
    pub ordered: bool,
    /// Datanodes that are fuller than the goal allows.
    pub over: u64,
    /// Datanodes that are emptier.
    pub under: u64,
    /// Bytes to move until nobody is out of balance.
    pub left_bytes: u64,
    /// Moves under way.
    pub moving: u64,
    /// Moves that succeeded, since the start of this process.
    pub moved_blocks: u64,
    /// And their bytes.
    pub moved_bytes: u64,
    /// The last rounds found nothing that could be moved, although somebody is out of balance.
    pub stuck: bool,
}

/// The state of balancing.
#[derive(Debug, Default)]
pub(super) struct Balance {
    /// What the configuration asks for all the time.
    background: Option<BalanceGoal>,
    /// What an operator asked for, until it is reached.
    ordered: Option<BalanceGoal>,
    status: BalanceStatus,
    idle_rounds: u32,
    /// Where each source's search goes on.
    cursors: BTreeMap<NodeIndex, BlockId>,
}

impl Balance {
    /// A move succeeded.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.status.moved_blocks += 1;
        self.status.moved_bytes = self.status.moved_bytes.saturating_add(bytes);
    }
}

/// A datanode's volumes of one type.
#[derive(Clone, Debug)]
struct Share {
    node: NodeIndex,
    places: SmallVec<[StorageIndex; 4]>,
    capacity: u64,
    /// With what is coming and without what is going.
    used: u64,
    remaining: u64,
}

/// All of one type, and how full they are together.
struct Field {
    shares: Vec<Share>,
    /// The mean use, in percent.
    mean: f64,
}

impl Share {
    fn percent(&self) -> f64 {
        self.used as f64 * 100.0 / self.capacity.max(1) as f64
    }

    /// Bytes past (or, below zero, short of) a use in percent.
    fn past(&self, percent: f64) -> f64 {
        (self.percent() - percent) * self.capacity as f64 / 100.0
    }
}

impl BlockMap {
    /// Balances all the time in the background, or no more.
    pub fn set_background_balance(&mut self, goal: Option<BalanceGoal>) {
        self.balance.background = goal;
    }

    /// An operator orders balance, or (by none) the end of what was ordered. Moves under way come to their end.
    pub fn order_balance(&mut self, goal: Option<BalanceGoal>) {
        self.balance.ordered = goal;
        self.balance.idle_rounds = 0;
    }

    /// How far balancing is.
    #[must_use]
    pub fn balance_status(&self) -> BalanceStatus {
        let Balance { background, ordered, status, idle_rounds, .. } = &self.balance;
        BalanceStatus {
            goal: ordered.or(*background),
            ordered: ordered.is_some(),
            moving: self.moves.active.len() as u64,
            stuck: *idle_rounds >= IDLE_ROUNDS && status.left_bytes > 0,
            ..*status
        }
    }

    /// One round: orders moves as far as they may be.
    pub(super) fn assign_moves(&mut self, seed: u64, now: Millis) {
        self.expire_moves(now);
        let Some(goal) = self.balance.ordered.or(self.balance.background) else { return };
        // What is endangered comes first; what is not yet known cannot be judged.
        let quiet = !self.safe_mode.is_on()
            && self.active_since.is_some()
            && !self.sweep.is_under_way()
            && !self.is_endangered()
            && self.nodes.all_reported();
        if !quiet {
            return;
        }
        let mut random = Random::new(seed);
        let (mut ordered, mut looked) = (0, 0);
        let (mut over, mut under, mut left) = (0, 0, 0.0_f64);
        for field in self.fields() {
            let (too_full, too_empty) = field.outside(goal.threshold);
            over += too_full.0;
            under += too_empty.0;
            left += too_full.1.max(too_empty.1);
            if too_full.0 + too_empty.0 > 0 {
                ordered += self.move_within(field, goal, &mut random, &mut looked, ordered, now);
            }
        }
        let balance = &mut self.balance;
        (balance.status.over, balance.status.under, balance.status.left_bytes) = (over, under, left as u64);
        let idle = ordered == 0 && self.moves.active.is_empty();
        balance.idle_rounds = if idle { balance.idle_rounds.saturating_add(1) } else { 0 };
        if idle && (over + under == 0 || balance.idle_rounds >= IDLE_ROUNDS) {
            balance.ordered = None;
        }
    }

    /// Whether some block waits for copies, ordered or not, that one more loss would lose.
    fn is_endangered(&self) -> bool {
        let alone = |id: &BlockId| {
            self.table.get(*id).is_some_and(|entry| self.tally(entry.places.as_slice()).serving <= 1)
        };
        let copied =
            |(id, pending): (&BlockId, &super::map::Pending)| !pending.sources.is_empty() && alone(id);
        !self.needed[0].is_empty() || self.pending.iter().any(copied)
    }

    /// The datanodes that serve, by type of storage.
    fn fields(&self) -> Vec<Field> {
        let mut coming: BTreeMap<StorageIndex, u64> = BTreeMap::new();
        self.moves.promised(&mut coming);
        let mut going: BTreeMap<StorageIndex, u64> = BTreeMap::new();
        for under_way in self.moves.active.values() {
            *going.entry(under_way.from).or_default() += under_way.bytes;
        }
        let mut fields: BTreeMap<StorageType, BTreeMap<NodeIndex, Share>> = BTreeMap::new();
        for at in self.nodes.indexes() {
            for place in self.nodes.node(at).storages.iter().copied() {
                let storage = self.nodes.storage(place);
                let serves = self.standing(place) == Standing::Serving && !self.nodes.node(at).ended;
                if !serves || storage.report.capacity == 0 {
                    continue;
                }
                let share = fields.entry(storage.report.kind).or_default().entry(at).or_insert_with(|| {
                    Share { node: at, places: SmallVec::new(), capacity: 0, used: 0, remaining: 0 }
                });
                let (coming, going) =
                    (coming.get(&place).copied().unwrap_or(0), going.get(&place).copied().unwrap_or(0));
                share.places.push(place);
                share.capacity = share.capacity.saturating_add(storage.report.capacity);
                share.used = (share.used + storage.report.used).saturating_add(coming).saturating_sub(going);
                share.remaining =
                    share.remaining.saturating_add(storage.report.remaining.saturating_sub(coming));
            }
        }
        fields.into_values().map(|shares| Field::new(shares.into_values().collect())).collect()
    }

    /// Orders moves between the datanodes of one type; gives how many.
    fn move_within(
        &mut self,
        mut field: Field,
        goal: BalanceGoal,
        random: &mut Random,
        looked: &mut usize,
        before: usize,
        now: Millis,
    ) -> usize {
        let mut sources: Vec<usize> =
            (0..field.shares.len()).filter(|at| field.shares[*at].percent() > field.mean).collect();
        sources.sort_unstable_by(|one, two| {
            field.shares[*two].percent().total_cmp(&field.shares[*one].percent())
        });
        // If nobody is too full, those above the mean help who is too empty; and the other way round.
        let mut ordered = 0;
        for source in sources {
            while before + ordered < MOVES_PER_ROUND && *looked < LOOKED_AT_IN_ALL {
                let Some((id, entry, going)) = self.find_move(&field, source, goal, random, looked, now)
                else {
                    break;
                };
                let target = field.shares.iter().position(|share| share.places.contains(&going.to));
                field.shares[source].used = field.shares[source].used.saturating_sub(going.bytes);
                if let Some(target) = target {
                    let share = &mut field.shares[target];
                    share.used = share.used.saturating_add(going.bytes);
                    share.remaining = share.remaining.saturating_sub(going.bytes);
                }
                let block = BlockRef { id, stamp: entry.stamp, length: entry.length };
                let node = field.shares[source].node;
                self.begin_move(id, going);
                self.nodes.node_mut(node).orders.transfers.push_back(Copy {
                    block,
                    targets: SmallVec::from_slice(&[going.to]),
                    bytes_per_second: goal.bytes_per_second,
                    for_balance: true,
                });
                ordered += 1;
            }
        }
        ordered
    }

    /// A block that may go from a source to somebody who is emptier.
    fn find_move(
        &mut self,
        field: &Field,
        source: usize,
        goal: BalanceGoal,
        random: &mut Random,
        looked: &mut usize,
        now: Millis,
    ) -> Option<(BlockId, Entry, Move)> {
        let share = &field.shares[source];
        if self.nodes.node(share.node).orders.moving >= MOVES_PER_NODE {
            return None;
        }
        let targets = self.targets(field, source, goal);
        if targets.is_empty() {
            return None;
        }
        let (first, last) = (self.table.range(BlockId(0)..=BlockId(u64::MAX)).next()?.0, self.table.last()?);
        let by_chance = BlockId(first.0 + random.below(last.0 - first.0 + 1));
        let start = *self.balance.cursors.entry(share.node).or_insert(by_chance);
        let around = self
            .table
            .range(start..=BlockId(u64::MAX))
            .chain(self.table.range(BlockId(0)..=BlockId(start.0.saturating_sub(1))));
        let mut found = None;
        let mut cursor = start;
        for (id, entry) in around.take(LOOKED_AT) {
            *looked += 1;
            cursor = id.next();
            let Some(from) = entry.places.as_slice().iter().copied().find(|at| share.places.contains(at))
            else {
                continue;
            };
            // No further than to the mean.
            if entry.length as f64 > share.past(field.mean) || !self.may_move(id, entry) {
                continue;
            }
            if let Some(to) = self.target_for(entry, from, field, &targets) {
                found = Some((id, entry.clone(), from, to));
                break;
            }
        }
        self.balance.cursors.insert(share.node, cursor);
        let (id, entry, from, to) = found?;
        let deadline = now.plus(self.patience(entry.length, MOVES_PER_NODE as usize, goal.bytes_per_second));
        let bytes = entry.length;
        Some((id, entry, Move { from, to, bytes, deadline }))
    }

    /// Who may take from a source, the emptiest first: if the source is too full everybody below the mean, else those
    /// that are too empty.
    fn targets(&self, field: &Field, source: usize, goal: BalanceGoal) -> Vec<usize> {
        let too_full = field.shares[source].percent() > field.mean + goal.threshold;
        let bound = if too_full { field.mean } else { field.mean - goal.threshold };
        let free = |at: &usize| {
            let share = &field.shares[*at];
            *at != source
                && share.percent() < bound
                && self.nodes.node(share.node).orders.moving < MOVES_PER_NODE
                && !self.nodes.node(share.node).slow
        };
        let mut targets: Vec<usize> = (0..field.shares.len()).filter(free).collect();
        targets.sort_unstable_by(|one, two| {
            field.shares[*one].percent().total_cmp(&field.shares[*two].percent())
        });
        targets
    }

    /// Whether a block has all its replicas, known for certain, and nothing else happens to it.
    fn may_move(&self, id: BlockId, entry: &Entry) -> bool {
        let places = entry.places.as_slice();
        entry.length > 0
            && places.len() == usize::from(entry.replication)
            && self.proven(places) == places.len()
            && !self.pending.contains_key(&id)
            && !self.moves.active.contains_key(&id)
            && !self.bad.contains_key(&id)
            && !self.needed.iter().any(|queue| queue.contains(&id))
    }

    /// Where a replica may go: where there is room and no replica, and no less widely; in its own rack if that is
    /// possible.
    fn target_for(
        &self,
        entry: &Entry,
        from: StorageIndex,
        field: &Field,
        targets: &[usize],
    ) -> Option<StorageIndex> {
        let places = entry.places.as_slice();
        let before = self.spread(places.iter().copied());
        let rack = |node: NodeIndex| &self.nodes.node(node).rack;
        let own = rack(self.nodes.storage(from).node);
        let fits = |at: &&usize| {
            let share = &field.shares[**at];
            entry.length as f64 <= -share.past(field.mean)
                && places.iter().all(|place| self.nodes.storage(*place).node != share.node)
        };
        let near = targets.iter().filter(fits).filter(|at| rack(field.shares[**at].node) == own);
        let far = targets.iter().filter(fits).filter(|at| rack(field.shares[**at].node) != own);
        let place = |at: &usize| {
            let places = field.shares[*at].places.iter().copied();
            let room = |place: &StorageIndex| self.nodes.storage(*place).report.remaining;
            places.filter(|place| room(place) >= entry.length).max_by_key(room)
        };
        near.chain(far).filter_map(place).find(|to| {
            let after = places.iter().copied().filter(|place| *place != from).chain([*to]);
            self.spread(after).covers(before)
        })
    }
}

impl Field {
    fn new(shares: Vec<Share>) -> Self {
        let sum = |what: fn(&Share) -> u64| shares.iter().map(what).fold(0, u64::saturating_add) as f64;
        let mean = sum(|share| share.used) * 100.0 / sum(|share| share.capacity).max(1.0);
        Self { shares, mean }
    }

    /// How many are too full and how many too empty, and by how many bytes together.
    fn outside(&self, threshold: f64) -> ((u64, f64), (u64, f64)) {
        let (mut full, mut empty) = ((0, 0.0), (0, 0.0));
        for share in &self.shares {
            let (above, below) = (share.past(self.mean + threshold), -share.past(self.mean - threshold));
            if above > 0.0 {
                full = (full.0 + 1, full.1 + above);
            } else if below > 0.0 {
                empty = (empty.0 + 1, empty.1 + below);
            }
        }
        (full, empty)
    }
}
