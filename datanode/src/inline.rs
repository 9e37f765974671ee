//! A datanode without sockets, threads of its own and timers: who calls carries its messages and says when to do what.
//!
//! For simulations of whole clusters. What is sent and what follows from an answer is decided by the same code as in a
//! datanode that serves; here it only has another driver.

use std::sync::Arc;
use std::time::Instant;

use steadfs_common::{BlockPoolId, DatanodeUuid, FsError, FsErrorKind, FsResult, GenStamp, StorageId};
use steadfs_datanode_store::{Block, Cluster, Heard, RecoveryReplica, Store, StoreOptions};
use steadfs_proto::convert::{required, storage_id};
use steadfs_proto::steadfs as pb;

use crate::changes::Changes;
use crate::convert::{block, state, to_block, to_change, to_state, to_storage_report};
use crate::link::beats::Beats;
use crate::link::commands::Deletion;
use crate::link::hear;
use crate::link::reports::{CHANGES_PER_CALL, Report, may_pass};
use crate::recovery::{Answers, Bounds, Decision, decide};

pub use crate::pipeline::inline::{InlineOpened, InlineReceiver};

/// One life of a datanode.
pub struct InlineDatanode {
    store: Arc<Store>,
    changes: Arc<Changes>,
    address: pb::DatanodeAddress,
    session: u64,
    heard: Heard,
    beats: Beats,
}

impl InlineDatanode {
    /// Opens the volumes. `address` is what others are told; its uuid is that on the disks.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(options: StoreOptions, address: pb::DatanodeAddress, session: u64) -> FsResult<Self> {
        let changes = Arc::new(Changes::new());
        let store = Store::open(options, changes.clone())?;
        let address = pb::DatanodeAddress { uuid: store.identity().uuid.to_string(), ..address };
        Ok(Self { heard: store.heard(), store, changes, address, session, beats: Beats::default() })
    }

    /// Its replicas.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Who it is.
    #[must_use]
    pub fn uuid(&self) -> DatanodeUuid {
        self.store.identity().uuid
    }

    /// What it says to be taken in.
    #[must_use]
    pub fn registration(&self) -> pb::RegisterRequest {
        let cluster = self.store.identity().cluster;
        pb::RegisterRequest {
            address: Some(self.address.clone()),
            cluster_id: cluster.map(|cluster| cluster.cluster_id).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").into(),
            storages: self.store.statuses().iter().map(to_storage_report).collect(),
            session: self.session,
            heard: Some(pb::Heard {
                incarnation: self.heard.incarnation,
                epoch: self.heard.epoch,
                transaction: self.heard.transaction,
            }),
            ..Default::default()
        }
    }

    /// Takes the answer to [`Self::registration`].
    ///
    /// # Errors
    /// The namenode is behind one that was heard before; it is of another cluster; the disks.
    pub fn registered(&mut self, answer: pb::RegisterResponse) -> FsResult<()> {
        let heard = hear(&mut self.heard, answer.epoch, answer.now)?;
        let cluster = Cluster { cluster_id: answer.cluster_id, block_pool: BlockPoolId(answer.block_pool) };
        self.store.join(&cluster)?;
        self.store.note_heard(heard)?;
        Ok(())
    }

    /// What a heartbeat says.
    #[must_use]
    pub fn heartbeat(&self) -> pb::HeartbeatRequest {
        let (number, answered) = self.beats.next();
        pb::HeartbeatRequest {
            uuid: self.address.uuid.clone(),
            session: self.session,
            storages: self.store.statuses().iter().map(to_storage_report).collect(),
            address: Some(self.address.clone()),
            number,
            answered,
            ..Default::default()
        }
    }

    /// Takes the answer to a heartbeat: gives what is to be done, if the namenode is to be obeyed.
    ///
    /// # Errors
    /// It is behind one that was heard before.
    pub fn heard(&mut self, answer: pb::HeartbeatResponse) -> FsResult<Vec<pb::command::Command>> {
        hear(&mut self.heard, answer.epoch, answer.now)?;
        self.beats.taken();
        Ok(answer.commands.into_iter().filter_map(|command| command.command).collect())
    }

    /// The oldest changes that were not told, and what to call [`Self::told`] with once they are.
    #[must_use]
    pub fn changes(&self) -> Option<(pb::BlocksChangedRequest, u64)> {
        let (batch, end) = self.changes.batch(CHANGES_PER_CALL);
        let request = pb::BlocksChangedRequest {
            uuid: self.address.uuid.clone(),
            session: self.session,
            changes: batch.iter().map(to_change).collect(),
            moves: Vec::new(),
            end: Some(end),
        };
        (!batch.is_empty()).then_some((request, end))
    }

    /// Forgets changes that were told.
    pub fn told(&self, end: u64) {
        self.changes.sent(end);
    }

    /// Whether what was refused with this is sent again as it is. Else a full report says it all.
    #[must_use]
    pub fn is_sent_again(error: &FsError) -> bool {
        may_pass(error)
    }

    /// The oldest bad replica that was not reported.
    #[must_use]
    pub fn bad(&self) -> Option<(pb::ReportBadRequest, (StorageId, Block))> {
        let (storage, block) = self.changes.bad()?;
        let request = pb::ReportBadRequest {
            uuid: self.address.uuid.clone(),
            storage_id: storage.to_string(),
            blocks: vec![to_block(block)],
        };
        Some((request, (storage, block)))
    }

    /// Forgets a bad replica that was reported.
    pub fn bad_told(&self, reported: (StorageId, Block)) {
        self.changes.bad_sent(reported);
    }

    /// A full report, in slices. All changes must have been told before.
    #[must_use]
    pub fn report(&self) -> Vec<pb::BlockReportSlice> {
        let mut report = Report::begin(self.store.clone(), self.changes.clone(), self.uuid(), self.session);
        std::iter::from_fn(|| report.next()).collect()
    }

    /// Follows an order to delete replicas.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn invalidate(&self, order: pb::Invalidate) -> FsResult<()> {
        for wire in order.blocks {
            if let Some(deletion) = Deletion::ordered(&self.store, wire, Instant::now())? {
                deletion.follow(&self.store);
            }
        }
        Ok(())
    }

    /// Another datanode leads a recovery: what is here of the block.
    ///
    /// # Errors
    /// As [`Store::init_recovery`].
    pub fn init_recovery(&self, asked: Block, recovery: GenStamp) -> FsResult<Option<RecoveryReplica>> {
        let found = self.store.init_recovery(asked, recovery)?;
        // As another datanode hears it.
        let told = |replica: RecoveryReplica| {
            let heard = state(to_state(replica.state).into())?;
            Ok(RecoveryReplica { state: heard, ..replica })
        };
        found.map(told).transpose()
    }
}

/// A block's recovery, as its leader goes about it.
pub struct InlineRecovery {
    /// The block as the namenode knows it.
    pub block: Block,
    /// The stamp that it gets.
    pub recovery: GenStamp,
    bounds: Bounds,
    answers: Answers,
}

/// What is to be done with replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineUpdate {
    /// What all of them get.
    pub len: u64,
    /// The numbers of the datanodes, each with its replica as it said.
    pub who: Vec<(usize, Block)>,
    /// The block goes.
    pub delete: bool,
}

impl InlineRecovery {
    /// Begins to follow an order.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn begin(order: &pb::Recover) -> FsResult<Self> {
        let answers = Answers::with_left_out(order.left_out as usize);
        let old = block("block", order.block)?;
        Ok(Self { block: old, recovery: GenStamp(order.new_stamp), bounds: Bounds::of(order, old), answers })
    }

    /// Takes what datanode number `index` said.
    ///
    /// # Errors
    /// A newer recovery is under way.
    pub fn take(&mut self, index: usize, answer: FsResult<Option<RecoveryReplica>>) -> FsResult<()> {
        self.answers.take(index, answer, self.block)
    }

    /// What is to be done with the replicas.
    ///
    /// # Errors
    /// Nothing can be decided: the namenode will ask again.
    pub fn decide(&self) -> FsResult<InlineUpdate> {
        let decision = decide(&self.answers, self.recovery, self.bounds)
            .map_err(|why| FsError::new(FsErrorKind::Retriable, format!("{}: {why}", self.block.id)))?;
        Ok(match decision {
            Decision::Delete => InlineUpdate { len: 0, who: Vec::new(), delete: true },
            Decision::Keep { len, who } => {
                let chosen = self.answers.usable().iter().filter(|(index, _)| who.contains(index));
                let who = chosen.map(|(index, replica)| (*index, replica.block)).collect();
                InlineUpdate { len, who, delete: false }
            }
        })
    }

    /// What the namenode is told in the end. `updated` are the storages whose replicas are as they should be.
    #[must_use]
    pub fn result(
        &self,
        update: &InlineUpdate,
        updated: &[StorageId],
    ) -> pb::CommitBlockSynchronizationRequest {
        pb::CommitBlockSynchronizationRequest {
            block: Some(to_block(self.block)),
            new_stamp: self.recovery.0,
            new_length: update.len,
            close_file: true,
            delete_block: update.delete,
            storage_ids: updated.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The storage that a location names.
///
/// # Errors
/// It names none.
pub fn storage_of(location: &pb::Location) -> FsResult<(String, StorageId)> {
    let address = required("datanode", location.datanode.as_ref())?;
    Ok((address.uuid.clone(), storage_id("storage_id", &location.storage_id)?))
}
