//! What operators and balancers ask of all blocks together. Every answer is bounded.

use std::collections::BTreeSet;

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, StorageId};

use super::map::BlockMap;
use super::places::StorageIndex;
use crate::command::BlockRef;
use crate::placement::Random;

/// Blocks that one question of a balancer looks at: it asks again.
const LOOKED_AT: usize = 500_000;

/// What a balancer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlocksOn {
    /// Bytes of blocks that are enough.
    pub bytes: u64,
    /// Blocks shorter than this are not worth moving.
    pub least_bytes: u64,
    /// The most blocks in an answer.
    pub limit: usize,
}

/// Blocks that wait for something, for a report to people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkLists {
    /// They lack replicas, the most endangered first.
    pub lacking: Vec<BlockId>,
    /// They have no good replica.
    pub missing: Vec<BlockId>,
    /// They have too many replicas, of which some are not yet reported.
    pub postponed: Vec<BlockId>,
    /// They are being copied, with where to.
    pub copying: Vec<(BlockId, Vec<StorageId>)>,
    /// They have bad replicas, with where those are.
    pub corrupt: Vec<(BlockId, Vec<StorageId>)>,
    /// Replicas to be deleted, of each datanode.
    pub deletions: Vec<(DatanodeUuid, u64)>,
    /// How many there are of each, the lists being cut off: lacking, missing, postponed, copying, corrupt.
    pub totals: [u64; 5],
}

impl BlockMap {
    /// Some complete blocks with a good replica on this datanode, from a place by chance on, each with all its good
    /// replicas.
    #[must_use]
    pub fn blocks_on(
        &self,
        uuid: DatanodeUuid,
        wanted: &BlocksOn,
        seed: u64,
    ) -> Vec<(BlockRef, SmallVec<[StorageId; 3]>)> {
        let Some(node) = self.nodes.find(uuid) else { return Vec::new() };
        let (Some((first, _)), Some(last)) =
            (self.table.range(BlockId(0)..=BlockId(u64::MAX)).next(), self.table.last())
        else {
            return Vec::new();
        };
        let start = BlockId(first.0 + Random::new(seed).below(last.0 - first.0 + 1));
        let around = self
            .table
            .range(start..=BlockId(u64::MAX))
            .chain(self.table.range(BlockId(0)..=BlockId(start.0.saturating_sub(1))));
        let (mut found, mut bytes) = (Vec::new(), 0_u64);
        for (id, entry) in around.take(LOOKED_AT) {
            if bytes >= wanted.bytes || found.len() >= wanted.limit {
                break;
            }
            let places = entry.places.as_slice();
            let here =
                |place: &StorageIndex| self.nodes.storage(*place).node == node && self.nodes.counts(*place);
            if entry.length < wanted.least_bytes || !places.iter().any(here) {
                continue;
            }
            bytes = bytes.saturating_add(entry.length);
            let good = places.iter().filter(|place| self.nodes.counts(**place));
            let storages = good.map(|place| self.nodes.storage(*place).report.id).collect();
            found.push((BlockRef { id, stamp: entry.stamp, length: entry.length }, storages));
        }
        found
    }

    /// Blocks that wait for work, of each kind at most `limit`.
    #[must_use]
    pub fn work_lists(&self, limit: usize) -> WorkLists {
        let ids = |places: &[StorageIndex]| {
            places.iter().map(|place| self.nodes.storage(*place).report.id).collect::<Vec<_>>()
        };
        let of = |set: &BTreeSet<BlockId>| set.iter().take(limit).copied().collect::<Vec<_>>();
        let corrupt = || {
            self.bad.iter().filter_map(|(id, marks)| {
                let places: Vec<StorageIndex> = self.bad_places(marks).collect();
                (!places.is_empty()).then(|| (*id, ids(&places)))
            })
        };
        let deletions = self.nodes.indexes().filter_map(|at| {
            let node = self.nodes.node(at);
            let count = node.orders.invalid_len() as u64;
            (count > 0).then_some((node.uuid, count))
        });
        WorkLists {
            lacking: self.needed.iter().flatten().take(limit).copied().collect(),
            missing: of(&self.missing),
            postponed: of(&self.postponed),
            copying: self
                .pending
                .iter()
                .take(limit)
                .map(|(id, pending)| (*id, ids(&pending.targets)))
                .collect(),
            corrupt: corrupt().take(limit).collect(),
            deletions: deletions.collect(),
            totals: [
                self.needed.iter().map(BTreeSet::len).sum::<usize>(),
                self.missing.len(),
                self.postponed.len(),
                self.pending.len(),
                corrupt().count(),
            ]
            .map(|count| count as u64),
        }
    }
}
