//! What datanodes say of their replicas.

use smallvec::SmallVec;
use steadfs_common::{BlockId, DatanodeUuid, FsError, FsErrorKind, FsResult, GenStamp, Millis, StorageId};

use super::bad::{Bad, Cause};
use super::map::{BlockMap, Building, Reported};
use super::nodes::{NodeIndex, ReportProgress};
use super::places::StorageIndex;
use super::recent::Age;
use super::recover::RecoveryWork;
use crate::command::BlockRef;
use crate::record::{Block, BlockState};

/// A replica's state at its datanode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// Its length is final.
    Finalized,
    /// A writer is at it.
    BeingWritten,
    /// Its writer is gone, its datanode was restarted since.
    WaitingRecovery,
    /// It is final, and its datanode knows that its bytes are not what they should be.
    Bad,
}

/// A replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The block, with the replica's own stamp and length.
    pub block: BlockRef,
    /// Its state.
    pub state: ReplicaState,
}

/// What happened to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A writer began.
    Receiving,
    /// It is final.
    Received,
    /// It is gone.
    Deleted,
    /// It was there already, and its datanode has found that all its bytes match their checksums.
    Verified,
}

/// A replica that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub storage: StorageId,
    /// Which, with the replica's own stamp and length.
    pub block: BlockRef,
    /// What happened.
    pub kind: ChangeKind,
}

/// Which part of a full report: one volume's.
#[derive(Clone, Copy, Debug)]
pub struct ReportPart {
    /// Which report.
    pub report: u64,
    /// Which volume.
    pub storage: StorageId,
    /// The part knows of the session's changes before this number. None: its datanode does not say.
    pub knows: Option<u64>,
}

/// What the namespace has of blocks, read after [`BlockMap::version`] said `version`.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What [`BlockMap::version`] said before the namespace was read.
    pub version: u64,
    /// The blocks that exist among those asked for, by id.
    pub blocks: &'a [Block],
    /// The next block id that will be given out.
    pub next_block: BlockId,
}

impl Facts<'_> {
    /// The block, if it exists.
    fn find(&self, id: BlockId) -> Option<&Block> {
        self.blocks.binary_search_by_key(&id, |block| block.id).ok().map(|at| &self.blocks[at])
    }

    /// Whether the namespace gave this id out once. Ids are never used again; those of block groups count otherwise.
    fn was_given(&self, id: BlockId) -> bool {
        id >= steadfs_common::FIRST_BLOCK_ID && id < self.next_block
    }
}

impl BlockMap {
    /// How much the namespace has told so far. Ask before reading facts.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.changes.version()
    }

    /// Notes replicas that a full report lists on one volume, in order of their ids. Gives back those of which nothing is known
    /// and there are no facts, or too old ones: read their facts and repeat with them.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for another life of the datanode; [`FsErrorKind::InvalidRequest`] for ids that
    /// are not in order, a volume that is not the datanode's, or a report in whose place another one has begun;
    /// [`FsErrorKind::Retriable`] for a part so old that more changed since than is remembered.
    pub fn report(
        &mut self,
        (uuid, session): (DatanodeUuid, u64),
        part: ReportPart,
        replicas: &[Replica],
        facts: Option<&Facts<'_>>,
        now: Millis,
    ) -> FsResult<Vec<Replica>> {
        let at = self.reported_storage(uuid, session, part.storage)?;
        let progress = self.progress(at, part.report, now)?;
        let first = progress.next.unwrap_or(BlockId(u64::MAX));
        let ordered = replicas.windows(2).all(|pair| pair[0].block.id < pair[1].block.id);
        if !ordered
            || replicas.first().is_some_and(|replica| replica.block.id < first || progress.next.is_none())
        {
            return Err(invalid("a report's replicas are not in order of their block ids".into()));
        }
        let age = self.age(at, part, progress)?;
        let mut again = Vec::new();
        for replica in replicas {
            let id = replica.block.id;
            if self.nodes.storage(at).recent.outdates(id, age) {
                continue;
            }
            let node = self.nodes.storage(at).node;
            let orders = &mut self.nodes.node_mut(node).orders;
            match orders.invalid(id).map(|order| order.stamp) {
                Some(ordered) if ordered >= replica.block.stamp => continue,
                // An order for an older stamp leaves this one alone, and would stand in the way of one that does not.
                Some(_) => drop(orders.keep(id)),
                None => {}
            }
            if !self.note(at, *replica, facts, now) {
                again.push(*replica);
            }
        }
        let node = self.nodes.storage(at).node;
        let node = self.nodes.node_mut(node);
        if !node.orders.report_again {
            node.report_due = Some(now.plus(super::work::REPORT_RETRY));
        }
        Ok(again)
    }

    /// Compares what is known to be on a volume with the report, up to `last`: what the report does not list is gone.
    /// `replicas` are those listed since the last call. Looks at no more than `budget` blocks; true when it is done.
    ///
    /// # Errors
    /// As [`BlockMap::report`].
    pub fn compare(
        &mut self,
        (uuid, session): (DatanodeUuid, u64),
        part: ReportPart,
        replicas: &[Replica],
        last: BlockId,
        budget: usize,
        now: Millis,
    ) -> FsResult<bool> {
        let at = self.reported_storage(uuid, session, part.storage)?;
        let progress = self.progress(at, part.report, now)?;
        let Some(first) = progress.next.filter(|first| *first <= last) else { return Ok(true) };
        let age = self.age(at, part, progress)?;
        let listed = |id: &BlockId| replicas.binary_search_by_key(id, |replica| replica.block.id).is_ok();
        let mut stopped = None;
        let mut gone: Vec<BlockId> = Vec::new();
        // After a start every volume of every datanode is compared with all blocks that the others have reported: of one that
        // had nothing, nothing can be gone.
        let known = (!progress.first).then(|| self.table.range(first..=last)).into_iter().flatten();
        for (looked, (id, entry)) in known.enumerate() {
            if looked >= budget {
                stopped = Some(id);
                break;
            }
            if entry.places.contains(at) && !listed(&id) {
                gone.push(id);
            }
        }
        let until = stopped.map_or(last, |next| BlockId(next.0 - 1));
        let reported = |building: &Building| {
            building.reports.iter().any(|report| report.storage == at)
                || building.bad.iter().any(|mark| mark.storage == at)
        };
        let building =
            self.building.range(first..=until).filter(|(id, building)| reported(building) && !listed(id));
        gone.extend(building.map(|(id, _)| *id));
        let marked = self
            .bad
            .range(first..=until)
            .filter(|(id, marks)| marks.iter().any(|mark| mark.storage == at) && !listed(id));
        gone.extend(marked.map(|(id, _)| *id));
        // What an earlier life deleted is not taken back when its order turns out to be no longer wanted.
        let node = self.nodes.storage(at).node;
        let deleted: Vec<BlockId> =
            self.nodes.node(node).orders.invalid_on(at, first..=until).filter(|id| !listed(id)).collect();
        for id in deleted {
            if !self.nodes.storage(at).recent.outdates(id, age) {
                self.nodes.node_mut(node).orders.keep(id);
            }
        }
        for id in gone {
            if !self.nodes.storage(at).recent.outdates(id, age) {
                self.forget(id, at);
            }
        }
        let next = match stopped {
            Some(id) => Some(id),
            None => last.0.checked_add(1).map(BlockId),
        };
        self.nodes.storage_mut(at).progress = Some(ReportProgress { next, ..progress });
        Ok(stopped.is_none())
    }

    /// All replicas of a volume were reported and compared: from now on those there count when others are deleted. Unless
    /// so much changed meanwhile that the report could not be trusted: then another is asked for.
    ///
    /// # Errors
    /// As [`BlockMap::report`].
    pub fn storage_reported(
        &mut self,
        (uuid, session): (DatanodeUuid, u64),
        part: ReportPart,
        now: Millis,
    ) -> FsResult<()> {
        let at = self.reported_storage(uuid, session, part.storage)?;
        let progress = self.progress(at, part.report, now)?;
        let entry = self.nodes.storage_mut(at);
        entry.progress = None;
        let doubtful = entry.recent.doubts(Age { began: progress.began, knows: part.knows });
        let again = doubtful && !entry.reported;
        entry.reported |= !doubtful;
        let node = entry.node;
        let node = self.nodes.node_mut(node);
        if again {
            node.report_due = Some(now.plus(super::work::REPORT_RETRY));
            return Ok(());
        }
        node.last_report = now;
        let storages = node.storages.clone();
        if storages
            .iter()
            .all(|other| self.nodes.storage(*other).reported || self.nodes.storage(*other).dropped)
        {
            let node = self.nodes.node_mut(self.nodes.storage(at).node);
            node.report_due = node.report_due.filter(|_| node.orders.report_again);
        }
        self.judge_bad_beside(at);
        Ok(())
    }

    /// Takes what came and went since the last call, up to the change before number `end` of the session. Gives back what must
    /// be repeated with facts or newer ones, and all that follows it: of one block the later word counts. A call that was overtaken by
    /// its own repetition is passed over: it would bring back what is gone by now.
    ///
    /// # Errors
    /// [`FsErrorKind::NotRegistered`] for another life of the datanode.
    pub fn changed(
        &mut self,
        (uuid, session): (DatanodeUuid, u64),
        (changes, end): (&[Change], Option<u64>),
        facts: Option<&Facts<'_>>,
        now: Millis,
    ) -> FsResult<Vec<Change>> {
        let node = self.reporter(uuid, session)?;
        if end.is_some_and(|end| end <= self.nodes.node(node).taken) {
            return Ok(Vec::new());
        }
        for (nth, change) in changes.iter().enumerate() {
            let found = self.nodes.find_storage(change.storage);
            let Some(at) = found.filter(|at| self.nodes.storage(*at).node == node) else { continue };
            if self.nodes.storage(at).dropped {
                continue;
            }
            let id = change.block.id;
            // They end with the last of the call's, also when the first ones were taken before.
            let number = end.map(|end| end.saturating_sub((changes.len() - 1 - nth) as u64));
            let state = match change.kind {
                ChangeKind::Receiving => ReplicaState::BeingWritten,
                ChangeKind::Received | ChangeKind::Verified => ReplicaState::Finalized,
                ChangeKind::Deleted => {
                    self.deleted(id, at, node, (number, now));
                    continue;
                }
            };
            let verified = change.kind == ChangeKind::Verified;
            let doomed = if verified {
                self.is_ordered_away(change.block, at)
            } else {
                self.is_doomed(change.block, at)
            };
            if state == ReplicaState::Finalized {
                if doomed {
                    self.nodes.storage_mut(at).recent.note(id, number, now);
                    continue;
                }
                self.arrived(id, at);
            }
            if verified {
                self.absolve(change.block, at);
            } else {
                // Something new is there: what was to be deleted is not it.
                self.nodes.node_mut(node).orders.keep(id);
            }
            let replica = Replica { block: change.block, state };
            if !self.note(at, replica, facts, now) {
                return Ok(changes[nth..].to_vec());
            }
            if verified {
                self.was_verified(change.block, at);
            }
            self.nodes.storage_mut(at).recent.note(id, number, now);
        }
        if let Some(end) = end {
            self.nodes.node_mut(node).taken = end;
        }
        Ok(Vec::new())
    }

    /// A volume holds one replica of a block: whatever its stamp was, there is nothing left to delete.
    fn deleted(
        &mut self,
        id: BlockId,
        at: StorageIndex,
        node: NodeIndex,
        (number, now): (Option<u64>, Millis),
    ) {
        let orders = &mut self.nodes.node_mut(node).orders;
        if orders.invalid(id).is_some_and(|order| order.storage == at) {
            orders.keep(id);
        }
        self.nodes.storage_mut(at).recent.note(id, number, now);
        self.forget(id, at);
    }

    /// No replica of the block is there any more.
    fn forget(&mut self, id: BlockId, at: StorageIndex) {
        self.clear_bad(id, at);
        if let Some(building) = self.building.get_mut(&id) {
            building.reports.retain(|report| report.storage != at);
            building.bad.retain(|mark| mark.storage != at);
        } else {
            self.drop_place(id, at);
            self.evaluate(id);
        }
    }

    fn reported_storage(
        &self,
        uuid: DatanodeUuid,
        session: u64,
        storage: StorageId,
    ) -> FsResult<StorageIndex> {
        let node = self.reporter(uuid, session)?;
        self.nodes
            .find_storage(storage)
            .filter(|at| self.nodes.storage(*at).node == node && !self.nodes.storage(*at).dropped)
            .ok_or_else(|| invalid(format!("storage {storage} is no working volume of datanode {uuid}")))
    }

    /// How far this report is; a new one begins at the first block.
    fn progress(&mut self, at: StorageIndex, report: u64, now: Millis) -> FsResult<ReportProgress> {
        if let Some(progress) = self.nodes.storage(at).progress.filter(|progress| progress.report == report) {
            return Ok(progress);
        }
        let written = |building: &Building| building.reports.iter().any(|report| report.storage == at);
        let first = self.nodes.storage(at).blocks == 0 && !self.building.values().any(written);
        let storage = self.nodes.storage_mut(at);
        if storage.broken_off.contains(&report) {
            let id = storage.report.id;
            return Err(invalid(format!("this report of volume {id} is over: another one has begun since")));
        }
        storage.break_report_off();
        let fresh = ReportProgress { report, began: now, next: Some(BlockId(0)), first };
        storage.progress = Some(fresh);
        Ok(fresh)
    }

    /// How old a part of a report is, if anything can be told from it.
    fn age(&self, at: StorageIndex, part: ReportPart, progress: ReportProgress) -> FsResult<Age> {
        let age = Age { began: progress.began, knows: part.knows };
        if self.nodes.storage(at).recent.is_too_late(age) {
            let message = format!(
                "this part of the report of volume {} is from before more changes than are remembered: send it again",
                part.storage
            );
            return Err(FsError::new(FsErrorKind::Retriable, message));
        }
        Ok(age)
    }

    /// Notes one replica; false if it needs facts that are not there or too old.
    fn note(&mut self, at: StorageIndex, replica: Replica, facts: Option<&Facts<'_>>, now: Millis) -> bool {
        let id = replica.block.id;
        if self.building.contains_key(&id) {
            self.note_building(at, replica);
            return true;
        }
        if self.table.get(id).is_some() {
            self.note_complete(at, replica);
            return true;
        }
        let Some(facts) = facts.filter(|facts| !self.changes.changed_since(id, facts.version)) else {
            return false;
        };
        match facts.find(id) {
            Some(block) if block.is_complete() => {
                self.table.insert(id, block.stamp, block.length, block.replication);
                self.note_complete(at, replica);
            }
            Some(block) => {
                self.adopt_building(block);
                self.note_building(at, replica);
            }
            None if !facts.was_given(id) || self.keeps(id, replica.block.length) => {}
            None if self.safe_mode.is_on() => self.ask_after_safe_mode(at, now),
            None => self.delete_gone(id, at, replica.block.length),
        }
        true
    }

    /// Nothing is deleted in safe mode, not even what the namespace does not have: it is asked for again afterwards.
    fn ask_after_safe_mode(&mut self, at: StorageIndex, now: Millis) {
        let node = self.nodes.storage(at).node;
        let node = self.nodes.node_mut(node);
        node.orders.report_again = true;
        node.report_due.get_or_insert(now.plus(super::work::REPORT_RETRY));
    }

    /// Learns of a block under construction that this process did not see begin. A recovery that the last process ordered
    /// is ordered again.
    fn adopt_building(&mut self, block: &Block) {
        let building = Building {
            replication: block.replication,
            expected: block.expected().into(),
            ..Building::default()
        };
        self.building.insert(block.id, building);
        if let BlockState::UnderConstruction { expected, recovery: Some(recovery), .. } = &block.state {
            let (synced, unsure) = block.synced();
            let work = RecoveryWork {
                block: BlockRef { id: block.id, stamp: block.stamp, length: block.length },
                stamp: recovery.stamp,
                truncate_to: recovery.truncate_to,
                storages: expected.clone(),
                synced,
                unsure,
                since: None,
                primary: None,
                tried: SmallVec::new(),
                led: false,
                repeats: 0,
            };
            self.recoveries.entry(block.id).or_insert(work);
        }
    }

    pub(super) fn note_building(&mut self, at: StorageIndex, replica: Replica) {
        let id = replica.block.id;
        let node = self.nodes.storage(at).node;
        self.news_for_recovery(id);
        let Some(building) = self.building.get_mut(&id) else { return };
        if replica.state == ReplicaState::Bad {
            building.reports.retain(|old| old.storage != at);
            return;
        }
        // A datanode has one replica of a block; a report of an older life of it comes too late.
        let newer = building
            .reports
            .iter()
            .any(|old| self.nodes.storage(old.storage).node == node && old.stamp > replica.block.stamp);
        if newer {
            return;
        }
        building.reports.retain(|old| self.nodes.storage(old.storage).node != node);
        building.reports.push(Reported {
            storage: at,
            stamp: replica.block.stamp,
            length: replica.block.length,
            state: replica.state,
        });
        if replica.state == ReplicaState::Finalized {
            self.received.push(id);
        }
    }

    fn note_complete(&mut self, at: StorageIndex, replica: Replica) {
        let Some(entry) = self.table.get(replica.block.id) else { return };
        let Replica { block: BlockRef { id, stamp, length }, state } = replica;
        let same_stamp = entry.stamp == stamp;
        match state {
            ReplicaState::Finalized if same_stamp && entry.length == length => {
                // Who lists a replica again has not looked at its bytes: only another replica in its place ends the mark. One
                // that was not final, and is now, is another one.
                let spoilt = self.is_bad(id, at).is_some_and(|mark| {
                    mark.stamp == stamp && mark.length == length && mark.cause != Cause::Unfinished
                });
                if !spoilt {
                    self.clear_bad(id, at);
                    self.clear_former(id, at, stamp);
                    self.put_place(id, at);
                }
            }
            // Its last word is on its way.
            ReplicaState::BeingWritten if same_stamp => {}
            _ => self.mark_bad(id, Bad::new(at, (stamp, length), Self::cause_of(state))),
        }
        self.evaluate(id);
    }
}

impl BlockMap {
    /// A datanode has one replica of a block: a good one ends what an older stamp left on another of its volumes, and what was
    /// ordered about that.
    fn clear_former(&mut self, id: BlockId, at: StorageIndex, stamp: GenStamp) {
        let node = self.nodes.storage(at).node;
        let marks: SmallVec<[StorageIndex; 2]> = self
            .bad
            .get(&id)
            .into_iter()
            .flatten()
            .filter(|mark| mark.stamp < stamp && self.nodes.storage(mark.storage).node == node)
            .map(|mark| mark.storage)
            .collect();
        for storage in marks {
            self.clear_bad(id, storage);
            let orders = &mut self.nodes.node_mut(node).orders;
            if orders.invalid(id).is_some_and(|order| order.storage == storage) {
                orders.keep(id);
            }
        }
    }
}

fn invalid(message: String) -> FsError {
    FsError::new(FsErrorKind::InvalidRequest, message)
}
