//! One block being received, without sockets, threads and timers: who calls moves packets and acks. For simulations; the
//! rules are those that [`super::run`] carries out.

use std::sync::Arc;

use steadfs_common::{ChecksumSpec, FsError, FsErrorKind, FsResult, GenStamp};
use steadfs_datanode_store::{ReplicaWriter, Store};
use steadfs_wire::transfer::{Packet, PipelineAck, Stage, WriteBlock};

use super::run::{Acks, Finish, write_batch};
use super::state::PipelineState;
use super::{Opened, acks_of, check_request, finish_of, open_replica, storage_of};

/// What a request opened.
pub enum InlineOpened {
    /// A replica to be written.
    Receiver(Box<InlineReceiver>),
    /// A replica that was closed by the request itself.
    Closed,
}

/// One block being received on one datanode.
pub struct InlineReceiver {
    state: PipelineState,
    writer: Arc<ReplicaWriter>,
    spec: ChecksumSpec,
    finish: Finish,
    acks: Acks,
    /// To be deleted if the rest of the pipeline cannot be set up.
    created: Option<GenStamp>,
    failure: Option<String>,
}

impl InlineReceiver {
    /// Opens the replica that a request is about.
    ///
    /// # Errors
    /// As the datanode would refuse it.
    pub fn open(store: &Arc<Store>, request: &WriteBlock) -> FsResult<InlineOpened> {
        let acks = acks_of(request);
        check_request(request, acks)
            .map_err(|refusal| FsError::new(FsErrorKind::InvalidRequest, refusal.message))?;
        let Opened::Writer(writer) = open_replica(store, request, storage_of(request), acks)? else {
            return Ok(InlineOpened::Closed);
        };
        Ok(InlineOpened::Receiver(Box::new(Self {
            state: PipelineState::new(request.targets.len()),
            created: (request.stage == Stage::SetupCreate).then(|| writer.block().stamp),
            writer,
            spec: request.checksum,
            finish: finish_of(request.stage),
            acks,
            failure: None,
        })))
    }

    /// Gives up what was opened, because the rest of the pipeline cannot be set up.
    pub fn abandon(self, store: &Store) {
        if let Some(stamp) = self.created
            && let Err(error) = store.delete(self.writer.block().id, stamp)
        {
            tracing::warn!(%error, "a replica whose pipeline failed could not be removed");
        }
    }

    /// Takes a packet from upstream. True if it is to be forwarded.
    ///
    /// # Errors
    /// The sender broke the rules: the pipeline is over.
    pub fn packet(&mut self, packet: Packet) -> Result<bool, String> {
        let verdict = packet.verify(self.spec);
        if let Err(mismatch) = &verdict {
            self.failure.get_or_insert_with(|| mismatch.to_string());
        }
        self.state.receive(packet, verdict).map_err(|violation| violation.to_string())
    }

    /// Writes what has come.
    pub fn write(&mut self) {
        while let Some(batch) = self.state.next_batch() {
            let done = write_batch(&self.writer, batch, self.finish);
            if let Some(reason) = done.reason {
                self.failure.get_or_insert(reason);
            }
            self.state.written(done.outcome, done.frame_bytes);
        }
    }

    /// Takes an ack from downstream.
    ///
    /// # Errors
    /// Downstream broke the rules: it counts as gone.
    pub fn downstream_ack(&mut self, ack: PipelineAck) -> Result<(), String> {
        self.state.downstream_ack(ack).map_err(|violation| violation.to_string())
    }

    /// Downstream is gone.
    pub fn downstream_failed(&mut self) {
        self.state.downstream_failed();
    }

    /// The acks that can be known now: what is to be told upstream of them.
    pub fn acks(&mut self) -> Vec<PipelineAck> {
        let mut acks: Vec<PipelineAck> = std::iter::from_fn(|| self.state.next_ack()).collect();
        self.writer.set_acked(self.state.acked());
        if self.acks != Acks::EachPacket {
            acks.clear();
        }
        acks
    }

    /// Whether the sender gets one answer, at the end.
    #[must_use]
    pub fn answers_at_end(&self) -> bool {
        self.acks == Acks::AtEnd
    }

    /// Whether every ack that there will be was given out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// How it went on this node.
    ///
    /// # Errors
    /// Why the block did not end well.
    pub fn outcome(&self) -> Result<(), String> {
        match &self.failure {
            None if self.state.is_complete() => Ok(()),
            None => Err("the block did not end".into()),
            Some(reason) => Err(reason.clone()),
        }
    }
}
