//! What datanodes send: compared with the namespace's facts, which are read outside of the lock.

use std::sync::Arc;

use steadfs_common::{BlockId, DatanodeUuid, FsError, FsErrorKind, FsResult, StorageId};
use steadfs_namenode_core::View as _;
use steadfs_namenode_core::blocks::{
    Change, Facts, Heartbeat, NodeCommand, Registration, Replica, ReportPart,
};
use steadfs_namenode_core::command::BlockRef;
use steadfs_namenode_core::record::Block;

use super::{Blocks, Shared};

/// Replicas of a report that are noted in one hold of the lock.
const STEP: usize = 512;
/// Blocks compared with a report in one hold of the lock.
const COMPARE_STEP: usize = 20_000;
/// How often facts are read again for blocks that changed meanwhile.
const TRIES: usize = 8;
/// Ids whose rows lie this close, on average, are read as one range instead of one by one.
const DENSE: u64 = 4;

/// One part of a full report: replicas of one volume, in order of their ids.
#[derive(Clone, Debug)]
pub struct ReportSlice {
    /// Who sends it.
    pub uuid: DatanodeUuid,
    /// Which life of it.
    pub session: u64,
    /// Which report.
    pub report: u64,
    /// Which volume.
    pub storage: StorageId,
    /// The next replicas of the volume.
    pub replicas: Vec<Replica>,
    /// There are no more on this volume.
    pub last: bool,
    /// It knows of the session's changes before this number. None: its datanode does not say.
    pub knows: Option<u64>,
}

impl ReportSlice {
    const fn part(&self) -> ReportPart {
        ReportPart { report: self.report, storage: self.storage, knows: self.knows }
    }
}

/// The facts of some blocks, as read.
pub(super) struct Known {
    version: u64,
    blocks: Vec<Block>,
    next_block: BlockId,
}

impl Known {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts { version: self.version, blocks: &self.blocks, next_block: self.next_block }
    }

    /// Up to which block all are among those of a [`Shared::range`] of at most `limit`; the largest id if there are no more.
    pub(super) fn last(&self, limit: usize) -> BlockId {
        let last = self.blocks.last().filter(|_| self.blocks.len() >= limit);
        last.map_or(BlockId(u64::MAX), |block| block.id)
    }
}

/// Takes what a datanode tells of blocks that are not known, by facts that are read anew for what `take` gives back because its
/// blocks changed meanwhile.
///
/// # Errors
/// As `take`; [`FsErrorKind::Retriable`] if some of it could not be taken: nothing is left out in silence. The datanode sends
/// it again, after a wait that grows.
fn settle<T>(mut rest: Vec<T>, mut take: impl FnMut(Vec<T>) -> FsResult<Vec<T>>) -> FsResult<()> {
    for _ in 0..TRIES {
        if rest.is_empty() {
            return Ok(());
        }
        rest = take(rest)?;
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(FsError::new(FsErrorKind::Retriable, "the blocks change too fast to take this report of them"))
}

impl Shared {
    /// Reads what the namespace has of these blocks. Reads the disk.
    fn known(&self, ids: impl Iterator<Item = BlockId>) -> Known {
        // The version first: what changes after it is found out when the facts are used.
        let version = self.owner.read(|map| map.version());
        let mut ids: Vec<BlockId> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        let view = self.store.view_guard();
        let next_block = view.counters().map_or(BlockId(0), |counters| counters.next_block);
        let blocks = match (ids.first(), ids.last()) {
            (Some(first), Some(last)) => {
                let span = (last.0 - first.0).saturating_add(1);
                if span <= ids.len() as u64 * DENSE {
                    let mut blocks = view.blocks_from(*first, span as usize);
                    blocks.retain(|block| block.id <= *last);
                    blocks
                } else {
                    ids.iter().filter_map(|id| view.block(*id)).collect()
                }
            }
            _ => Vec::new(),
        };
        Known { version, blocks, next_block }
    }

    /// Reads up to `limit` blocks of the namespace, from `from` on. Reads the disk.
    pub(super) fn range(&self, from: BlockId, limit: usize) -> Known {
        let version = self.owner.read(|map| map.version());
        let view = self.store.view_guard();
        let blocks = view.blocks_from(from, limit);
        let next_block = view.counters().map_or(BlockId(0), |counters| counters.next_block);
        Known { version, blocks, next_block }
    }

    fn note_slice(&self, slice: &ReportSlice) -> FsResult<()> {
        let who = (slice.uuid, slice.session);
        let what = slice.part();
        for part in slice.replicas.chunks(STEP) {
            let now = self.now();
            let rest = self.owner.write(|map| map.report(who, what, part, None, now))?;
            settle(rest, |rest| {
                let known = self.known(rest.iter().map(|replica| replica.block.id));
                let now = self.now();
                self.owner.write(|map| map.report(who, what, &rest, Some(&known.facts()), now))
            })?;
            let last = part[part.len() - 1].block.id;
            self.compare(slice, part, last)?;
        }
        if slice.last {
            self.compare(slice, &[], BlockId(u64::MAX))?;
            let now = self.now();
            self.owner.write(|map| map.storage_reported(who, what, now))?;
        }
        Ok(())
    }

    fn compare(&self, slice: &ReportSlice, part: &[Replica], last: BlockId) -> FsResult<()> {
        let who = (slice.uuid, slice.session);
        let what = slice.part();
        loop {
            let now = self.now();
            if self.owner.step(|map| map.compare(who, what, part, last, COMPARE_STEP, now))? {
                return Ok(());
            }
        }
    }

    fn note_changes(
        &self,
        who: (DatanodeUuid, u64),
        (changes, end): (Vec<Change>, Option<u64>),
    ) -> FsResult<()> {
        settle(changes, |rest| {
            let known = self.known(rest.iter().map(|change| change.block.id));
            let now = self.now();
            let (again, received) = self.owner.write(|map| {
                let again = map.changed(who, (&rest, end), Some(&known.facts()), now);
                (again, map.take_received())
            });
            self.announce(received);
            again
        })
    }

    /// Notes changes up to the first one whose block is not known, so that nothing is read. Gives back the others.
    fn note_known(
        &self,
        who: (DatanodeUuid, u64),
        (changes, end): (&[Change], Option<u64>),
    ) -> FsResult<Vec<Change>> {
        let now = self.now();
        let (rest, received) = self.owner.write(|map| {
            let rest = map.changed(who, (changes, end), None, now);
            (rest, map.take_received())
        });
        self.announce(received);
        rest
    }
}

impl Blocks {
    /// Takes a datanode in.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for an earlier life of a datanode or a copied volume.
    pub fn register(&self, registration: Registration) -> FsResult<()> {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.register(registration, now))?;
        self.shared.publish();
        Ok(())
    }

    /// Takes a heartbeat and gives the datanode's work.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for an earlier life of a datanode.
    pub fn heartbeat(&self, heartbeat: Heartbeat) -> FsResult<Vec<NodeCommand>> {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.heartbeat(heartbeat, now))
    }

    /// Takes one part of a full report.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for another life of the datanode; [`FsErrorKind::InvalidRequest`] for ids out of
    /// order or a foreign volume.
    pub async fn report(&self, slice: ReportSlice) -> FsResult<()> {
        let shared = Arc::clone(&self.shared);
        self.shared
            .pool
            .run(move || {
                let result = shared.note_slice(&slice);
                let received = shared.owner.write(|map| map.take_received());
                shared.announce(received);
                result
            })
            .await
    }

    /// Takes what came and went at a datanode: changes, the last of them before number `end` of its session.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for another life of the datanode; [`FsErrorKind::Retriable`] if it must be sent
    /// again.
    pub async fn changed(
        &self,
        (uuid, session): (DatanodeUuid, u64),
        changes: Vec<Change>,
        end: Option<u64>,
    ) -> FsResult<()> {
        // A file's last replicas come here while its writer waits: no hop to another thread for them.
        let rest = self.shared.note_known((uuid, session), (&changes, end))?;
        if rest.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.shared.pool.run(move || shared.note_changes((uuid, session), (rest, end))).await
    }

    /// A balancer moved a replica of `block`: what another datanode has of it is the first to go.
    pub fn moving(&self, block: BlockId, instead_of: DatanodeUuid) {
        self.shared.owner.write(|map| map.moving(block, instead_of));
    }

    /// A datanode found replicas to be bad: its own for certain, another's as any reader.
    pub fn report_bad_by(&self, uuid: DatanodeUuid, storage: StorageId, blocks: &[BlockRef]) {
        self.shared.owner.write(|map| {
            let own = map
                .datanodes()
                .find_storage(storage)
                .is_some_and(|at| map.datanodes().owner(at).uuid == uuid);
            for block in blocks {
                map.report_bad(*block, &[storage], own);
            }
        });
    }

    /// A copy that a datanode was told to make to `targets` failed.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for another life of the datanode.
    pub fn copy_failed(
        &self,
        uuid: DatanodeUuid,
        session: u64,
        block: BlockRef,
        targets: &[StorageId],
    ) -> FsResult<()> {
        let now = self.shared.now();
        self.shared.owner.write(|map| map.copy_failed((uuid, session), block, targets, now))
    }

    /// The good and the bad replicas of a block.
    #[must_use]
    pub fn replicas(&self, block: BlockId) -> (Vec<crate::service::Location>, Vec<crate::service::Location>) {
        let (good, bad) = self.shared.owner.read(|map| map.replicas(block));
        let directory = self.shared.directory.load();
        (directory.locations(&good), directory.locations(&bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_newer_facts_is_tried_again_and_never_left_out_in_silence() {
        let mut tries = 0;
        let slow = settle(vec![1, 2, 3, 4], |rest| {
            tries += 1;
            Ok(rest[1..].to_vec())
        });
        assert_eq!((slow, tries), (Ok(()), 4));
        let never = settle(vec![1], Ok).unwrap_err();
        assert_eq!(never.kind(), FsErrorKind::Retriable);
        assert_eq!(settle(Vec::<u64>::new(), Ok), Ok(()));
        let refused = settle(vec![1], |_| Err(FsError::new(FsErrorKind::NotRegistered, "an earlier life")));
        assert_eq!(refused.unwrap_err().kind(), FsErrorKind::NotRegistered);
    }
}
