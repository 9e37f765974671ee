//! Telling the namenode which replicas are here: all of them now and then, and each change at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use steadfs_common::{BlockId, DatanodeUuid, FsError, FsErrorKind, FsResult, StorageId};
use steadfs_datanode_store::{ChangeKind, ReplicaChange, Store};
use steadfs_proto::steadfs as pb;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{CALL_TIMEOUT, End, Link, RETRY_FIRST, RETRY_MOST, call};
use crate::changes::Changes;
use crate::convert::{to_block, to_change, to_replica};

/// Changes in one message.
pub(crate) const CHANGES_PER_CALL: usize = 4_096;
/// Replicas in one slice of a full report.
const REPLICAS_PER_SLICE: usize = 4_096;
/// How long a full report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(600);

impl Link {
    /// Sends changes and bad replicas as they come, in order, one call at a time: those that come meanwhile go together.
    pub(super) async fn send_changes(&self) -> End {
        let mut wait = RETRY_FIRST;
        loop {
            match self.send_pending().await {
                Ok(()) => {
                    wait = RETRY_FIRST;
                    self.changes.wake.notified().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "changes could not be told; trying on");
                    if error.kind() == FsErrorKind::NotRegistered {
                        // The next heartbeat's answer says whether to register again.
                        self.changes.heartbeat.notify_one();
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MOST);
                }
            }
        }
    }

    /// Who may give its replica up, if a balancer moved this one here.
    fn move_of(&self, change: &ReplicaChange) -> Option<pb::blocks_changed_request::Move> {
        let id = change.block.id;
        let instead_of = self.node.moves.instead_of(id).filter(|_| change.kind == ChangeKind::Received)?;
        Some(pb::blocks_changed_request::Move { block_id: id.0, instead_of: instead_of.to_string() })
    }

    async fn send_pending(&self) -> FsResult<()> {
        loop {
            let (batch, end) = self.changes.batch(CHANGES_PER_CALL);
            if batch.is_empty() {
                break;
            }
            let request = pb::BlocksChangedRequest {
                uuid: self.node.uuid.to_string(),
                session: self.session,
                changes: batch.iter().map(to_change).collect(),
                moves: batch.iter().filter_map(|change| self.move_of(change)).collect(),
                end: Some(end),
            };
            match call(CALL_TIMEOUT, self.client.clone().blocks_changed(request)).await {
                Ok(_) => {
                    self.metrics.changes.inc_by(batch.len() as u64);
                }
                Err(error) if may_pass(&error) => return Err(error),
                Err(error) => {
                    // One that is refused for good must not hold back all that follow: a full report says it all.
                    tracing::error!(%error, "the namenode refuses changes; sending a full report instead");
                    self.changes.report.notify_one();
                }
            }
            self.changes.sent(end);
            let received = batch.iter().filter(|change| change.kind == ChangeKind::Received);
            received.for_each(|change| self.node.moves.told(change.block.id));
        }
        while let Some((storage, block)) = self.changes.bad() {
            let request = pb::ReportBadRequest {
                uuid: self.node.uuid.to_string(),
                storage_id: storage.to_string(),
                blocks: vec![to_block(block)],
            };
            match call(CALL_TIMEOUT, self.client.clone().report_bad(request)).await {
                Ok(_) => {
                    self.metrics.bad_replicas.inc();
                }
                Err(error) if may_pass(&error) => return Err(error),
                Err(error) => tracing::error!(%error, "the namenode refuses the report of a bad replica"),
            }
            self.changes.bad_sent((storage, block));
        }
        Ok(())
    }

    /// Sends a full report now, every so often, and whenever one is wanted; an early one counts for the time.
    pub(super) async fn send_reports(&self, every: Duration) -> End {
        let mut timer = interval(every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wait = RETRY_FIRST;
        loop {
            tokio::select! {
                _ = timer.tick() => {}
                () = self.changes.report.notified() => timer.reset(),
            }
            match self.send_report().await {
                Ok(()) => wait = RETRY_FIRST,
                Err(error) => {
                    tracing::warn!(%error, "the full report of all replicas broke off; trying on");
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MOST);
                    self.changes.report.notify_one();
                }
            }
        }
    }

    async fn send_report(&self) -> FsResult<()> {
        // So that no change from before the report reaches the namenode after it.
        self.changes.all_sent().await;
        let report =
            Report::begin(self.node.store.clone(), self.changes.clone(), self.node.uuid, self.session);
        call(REPORT_TIMEOUT, self.client.clone().block_report(report.stream())).await?;
        self.metrics.reports.inc();
        Ok(())
    }
}

/// Whether the same call may succeed later: the namenode is away, or wants a new registration first.
pub(crate) fn may_pass(error: &FsError) -> bool {
    error.is_transient() || error.kind() == FsErrorKind::NotRegistered
}

/// A full report under way: slices are made as the connection takes them.
pub(crate) struct Report {
    store: Arc<Store>,
    changes: Arc<Changes>,
    uuid: String,
    session: u64,
    report_id: u64,
    /// Storages that are not told to their end.
    storages: VecDeque<StorageId>,
    after: Option<BlockId>,
}

impl Report {
    /// A report of everything that lies on the volumes.
    pub(crate) fn begin(store: Arc<Store>, changes: Arc<Changes>, uuid: DatanodeUuid, session: u64) -> Self {
        Self {
            storages: store.volumes_in_service().into(),
            store,
            changes,
            uuid: uuid.to_string(),
            session,
            report_id: uuid::Uuid::new_v4().as_u64_pair().0,
            after: None,
        }
    }

    fn stream(self) -> impl Stream<Item = pb::BlockReportSlice> {
        futures::stream::unfold(self, |mut report| async move { report.next().map(|slice| (slice, report)) })
    }

    /// The next slice; none at the end.
    pub(crate) fn next(&mut self) -> Option<pb::BlockReportSlice> {
        let storage = *self.storages.front()?;
        // First the number: a change is in the store before it is told here.
        let knows = self.changes.end();
        let page = self.store.report_page(storage, self.after, REPLICAS_PER_SLICE);
        self.after = page.last().map(|replica| replica.block.id);
        let storage_done = page.is_empty();
        if storage_done {
            self.storages.pop_front();
        }
        Some(pb::BlockReportSlice {
            uuid: self.uuid.clone(),
            session: self.session,
            report_id: self.report_id,
            storage_id: storage.to_string(),
            replicas: page.iter().map(to_replica).collect(),
            storage_done,
            knows: Some(knows),
        })
    }
}
